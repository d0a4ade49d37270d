import { expect, test } from 'vitest';
import { valuesTable } from '../../../scripts/chart/values-table.ts';

test('tells each value with its default and the comment above it', () => {
  const text = `# About the file.

# The image.
image:
  # Where it is,
  # without the tag.
  repository: example
  tag: ""
resources: { cpu: 1 }
`;
  expect(() => valuesTable(text)).toThrow('no comment says what these mean: `image.tag`');
  expect(valuesTable(text.replace('  tag', '  # Which | what.\n  tag'))).toBe(
    [
      '| value | default | meaning |',
      '| --- | --- | --- |',
      '| `image` |  | The image. |',
      '| `image.repository` | `"example"` | Where it is, without the tag. |',
      '| `image.tag` | `""` | Which \\| what. |',
      '| `resources` | `{"cpu":1}` | Requests and limits of its container. |',
      '',
    ].join('\n'),
  );
});
