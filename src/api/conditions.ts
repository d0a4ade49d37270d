import { type ErrorCode, errorKinds } from '../lib/errors.ts';
import type { KindName } from './kind.ts';

/** A condition type: what it says, which statuses and reasons it has, and whether failures are named in it, too. */
export interface ConditionType {
  /** What `True` says. */
  meaning: string;
  reasons: Readonly<Record<string, { status: ConditionStatus; meaning: string }>>;
  /** Whether it carries failures: reasons that are codes of docs/users/errors.md, with status False. */
  failures: boolean;
}

type ConditionStatus = 'True' | 'False' | 'Unknown';

const isTrue = (meaning: string) => ({ status: 'True', meaning }) as const;
const isFalse = (meaning: string) => ({ status: 'False', meaning }) as const;
const isUnknown = (meaning: string) => ({ status: 'Unknown', meaning }) as const;

const nodeGone = isFalse('The Node object is gone, and with it what the node held; the object can be deleted.');

/** Every condition and reason there is: stable, as people and other programs match them. docs/users/api.md lists them. */
export const conditionTypes = {
  DiskImage: {
    Placed: {
      meaning: 'The node that has the disk, or will have it, is known.',
      failures: false,
      reasons: {
        NodeGiven: isTrue('Whoever declared the disk named the node.'),
        NodeChosen: isTrue('The controller chose the node by the room in its pool.'),
        SourceNode: isTrue('The disk is made where its source is.'),
        WaitingForSource: isFalse('The source is not there or not ready yet, so its node is not known.'),
        SourceForbidden: isFalse('The source is in another namespace, where only the system may take from.'),
        PoolNotFound: isFalse('No node, or not the one that was named, has a pool of that name that is ready.'),
        NoRoom: isFalse('No pool of that name has room for the disk; it is tried again when one has.'),
      },
    },
    Ready: {
      meaning: 'The disk is there and can be used.',
      failures: true,
      reasons: {
        Made: isTrue('The disk is in the pool of its node.'),
        WaitingForNode: isFalse('No node is chosen yet; the condition Placed says why.'),
        WaitingForSource: isFalse('The source is not there or not ready yet.'),
        WaitingForUpload: isFalse(
          'Nobody has sent the file of the disk image yet, or not all of it; the message says how.',
        ),
        Making: isFalse('The node is making the disk; status.progress says how far it is.'),
        Importing: isFalse('The node takes the content from the source; status.progress says how far it is.'),
        Fetching: isFalse(
          'The node fetches the content of the source from another node; status.progress says how far.',
        ),
        Deleting: isFalse('The disk is being deleted.'),
        Lost: isFalse('The disk was made, but its pool does not hold it any more.'),
        NodeGone: nodeGone,
      },
    },
    Sized: {
      meaning: 'The disk has the size that spec.size asks for, or more.',
      failures: true,
      reasons: {
        AsWanted: isTrue('There is nothing to grow.'),
        Growing: isFalse('The node is growing the disk.'),
        WaitingForDetach: isFalse('A disk of this kind grows only while no pod uses it.'),
      },
    },
    Copied: {
      meaning: 'All nodes that spec.nodes and spec.nodeSelector ask for have a copy.',
      failures: true,
      reasons: {
        AllCopied: isTrue('There is nothing to copy.'),
        WaitingForImage: isFalse('There is nothing to copy yet; the condition Ready says why.'),
        Copying: isFalse('Nodes are fetching their copies; status.copies lists them.'),
        NodeNotFound: isFalse('A node in spec.nodes is not in the cluster.'),
        PoolNotFound: isFalse('A node in spec.nodes has no pool of the name in spec.pool.'),
        IsCopy: isFalse('The DiskImage is itself the copy of another one, which is to name the nodes.'),
      },
    },
    Healthy: {
      meaning: 'Nothing is known to be wrong with the disk or with what serves it.',
      failures: true,
      reasons: {
        NothingFound: isTrue('No problem was found.'),
        WritesPaused: isFalse('Writes wait, as the pool is nearly full: delete or trim disks, or add space.'),
        NotChecked: isUnknown('The disk has not been looked at yet.'),
        NodeGone: nodeGone,
      },
    },
  },
  DiskSnapshot: {
    Ready: {
      meaning: 'The snapshot is taken, and disks can start from it.',
      failures: true,
      reasons: {
        Taken: isTrue('The snapshot is in the pool of its node.'),
        WaitingForDisk: isFalse('The disk is not there or not ready yet.'),
        Taking: isFalse('The node is taking the snapshot.'),
        Deleting: isFalse('The snapshot is being deleted.'),
        Lost: isFalse('The snapshot was taken, but its pool does not hold it any more.'),
        NodeGone: nodeGone,
      },
    },
  },
  DiskPool: {
    Ready: {
      meaning: 'The pool is served: disks can be made in it and used.',
      failures: true,
      reasons: {
        Serving: isTrue('The node plugin serves the pool.'),
        Starting: isFalse('The node plugin has started, and recovers and tests the pool.'),
        Stopped: isFalse('The node plugin was stopped; volumes that are in use go on.'),
        NodeGone: isFalse('The Node object is gone, and the pool with it.'),
        NodeSilent: isUnknown('The node plugin on the node has not reported for a while.'),
      },
    },
    DataPathProven: {
      meaning: 'What was written through the data path in the self-test was read back right.',
      failures: true,
      reasons: {
        SelfTestPassed: isTrue('The way to attach disks that status.dataPath names passed the self-test.'),
        SelfTestRunning: isUnknown('The self-test is running.'),
        NoRoomForSelfTest: isUnknown(
          'The pool was too full for it at the start of the node plugin: disks are attached by buffered I/O.',
        ),
      },
    },
    SpaceAvailable: {
      meaning: 'There is room in the file system for new work.',
      failures: false,
      reasons: {
        AboveMarks: isTrue('There is more free space than the marks ask for.'),
        BelowWarningMark: isTrue('Free space is short: delete or trim disks, or add space.'),
        BelowCriticalMark: isFalse('Nothing that takes space is started any more: delete or trim disks, or add space.'),
        WritesPaused: isFalse('The pool is nearly full, and writes to mounted disks wait until there is room.'),
      },
    },
    Claimed: {
      meaning: 'Everything that the pool holds has its object in the cluster.',
      failures: false,
      reasons: {
        AllClaimed: isTrue('There is nothing in the pool without an object.'),
        OrphansFound: isFalse('The pool holds what status.orphans lists, without an object.'),
      },
    },
  },
} as const satisfies Record<KindName, Readonly<Record<string, ConditionType>>>;

type PascalCase<Text extends string> = Text extends `${infer Head}-${infer Tail}`
  ? `${Capitalize<Head>}${PascalCase<Tail>}`
  : Capitalize<Text>;

/** A code of docs/users/errors.md as a reason: `PoolFull` for `pool-full`. `Unexpected` is an error that nobody foresaw. */
export type FailureReason = PascalCase<ErrorCode> | 'Unexpected';

const codeOfReason = new Map(Object.keys(errorKinds).map((code) => [pascalCase(code), code as ErrorCode]));

/** The reason for a failure of that code; of none for an error that nobody foresaw. */
export function failureReason(code: ErrorCode | undefined): FailureReason {
  return code === undefined ? 'Unexpected' : (pascalCase(code) as FailureReason);
}

/** The code behind a reason, or undefined where the reason is none of a foreseen failure. */
export function failureCode(reason: string): ErrorCode | undefined {
  return codeOfReason.get(reason);
}

function pascalCase(text: string): string {
  return text.replace(/(?:^|-)([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
