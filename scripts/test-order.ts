import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Files that take minutes, by their names without `.test.ts`. */
const longest = ['nbd', 'kill-steps', 'import-kill'];

/** What takes longest begins first, or one file would run alone for minutes when all others are done. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rankOf = ({ moduleId }: TestSpecification) => {
      const rank = longest.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
      return rank === -1 ? longest.length : rank;
    };
    return (await super.sort(files)).toSorted((one, other) => rankOf(one) - rankOf(other));
  }
}
