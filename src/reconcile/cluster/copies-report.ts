import type { DiskImageManifest } from '../../api/objects.ts';
import type { Finding } from '../../kube/conditions.ts';
import { formatRoundedQuantity } from '../../lib/quantity.ts';
import { shortened } from '../../lib/shortened.ts';
import type { CopyState } from './copy-state.ts';

/** A node that is to have a copy, and how that is. */
export interface CopyTold {
  nodeName: string;
  state: CopyState;
  /** What the copy takes of its pool, where that is known. */
  allocatedBytes?: number | undefined;
}

type CopiesStatus = NonNullable<NonNullable<DiskImageManifest['status']>['copies']>;

/** As many are in the status, so that the object stays small in a cluster of thousands of nodes. */
const maxListed = 256;
/** As many problems are in the condition. */
const maxProblems = 8;
const maxMessageLength = 256;

/** For status.copies: by the names of the nodes; where there are too many, those that are not ready. */
export function listCopies(told: readonly CopyTold[]): CopiesStatus {
  const isReady = ({ state }: CopyTold) => state.kind === 'ready';
  const listed = [...told.filter((one) => !isReady(one)), ...told.filter(isReady)].slice(0, maxListed);
  const byName = listed.sort((a, b) => (a.nodeName < b.nodeName ? -1 : 1));
  return byName.map(({ nodeName, state, allocatedBytes }) => ({
    nodeName,
    ready: state.kind === 'ready',
    ...(allocatedBytes === undefined ? {} : { allocated: formatRoundedQuantity(allocatedBytes, 'up') }),
    ...(state.kind === 'ready' ? {} : { message: shortened(state.message, maxMessageLength) }),
  }));
}

/** For the condition Copied. @param hasContent whether any node has the content, so that others can get it */
export function findingOf(told: readonly CopyTold[], hasContent: boolean): Finding {
  const ready = told.filter(({ state }) => state.kind === 'ready').length;
  const failures = told.flatMap(({ nodeName, state }) => (state.kind === 'failed' ? [{ nodeName, ...state }] : []));
  const [first] = failures;
  if (first) {
    const problems = failures
      .slice(0, maxProblems)
      .map(({ nodeName, message }) => `${nodeName}: ${shortened(message, maxMessageLength)}`);
    const more = failures.length - problems.length;
    const rest = more > 0 ? [`and ${more} more, which status.copies lists`] : [];
    const message = `${ready} of ${told.length} nodes have a copy. ${[...problems, ...rest].join(' ')}`;
    return { status: 'False', reason: first.reason, message };
  }
  if (ready === told.length) return { status: 'True', reason: 'AllCopied', message: allCopied(ready) };
  if (!hasContent) {
    return { status: 'False', reason: 'WaitingForImage', message: 'The copies are made when the image is ready.' };
  }
  const message = `${ready} of ${told.length} nodes have a copy; status.copies says how far the others are.`;
  return { status: 'False', reason: 'Copying', message };
}

function allCopied(count: number): string {
  if (count === 0) return 'No other node is to have a copy.';
  return count === 1 ? 'The node has its copy.' : `All ${count} nodes have their copy.`;
}
