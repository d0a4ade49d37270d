import { diskPoolName, fieldManagers } from '../../api/names.ts';
import type { DiskPool } from '../../api/objects.ts';
import { ensureObject, writeStatus } from '../../kube/apply.ts';
import { ConditionReport, findCondition } from '../../kube/conditions.ts';
import type { ReconcileResult } from '../../kube/controller.ts';
import type { ObjectCache } from '../../kube/cache/object-cache.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import { formatBytes } from '../../lib/bytes.ts';
import { failureOf } from './failures.ts';
import type { NodeContext } from './node-context.ts';
import type { PoolState, ServedPool } from './node-pools.ts';
import { findOrphans, type Orphans } from './orphans.ts';
import { describePool } from './pool-status.ts';

export interface NodeDiskPoolsOptions {
  context: NodeContext;
  pools: ObjectCache<DiskPool>;
  client: ResourceClient<DiskPool>;
  /** Of this program. */
  version: string;
  /** Where other nodes fetch layers; null where they cannot, or not yet. */
  transferAddress: () => string | null;
  /** Where people export and upload; null where they cannot, or not yet. */
  exportReport: () => DiskPool['status']['export'] | null;
}

type ConditionName = 'Ready' | 'DataPathProven' | 'SpaceAvailable' | 'Claimed';
type Report = ConditionReport<ConditionName>;

const conditionNames = ['Ready', 'DataPathProven', 'SpaceAvailable', 'Claimed'] as const;

/** How often free space is looked at, which changes by itself. */
const lookMs = 30_000;

/** Keeps a DiskPool for each pool of this node, which says what the pool is, holds and has room for. */
export class NodeDiskPools {
  readonly #options: NodeDiskPoolsOptions;

  constructor(options: NodeDiskPoolsOptions) {
    this.#options = options;
  }

  /** @param poolName as on the command line, not the object's */
  readonly reconcile = async (poolName: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const state = this.#options.context.pools.state(poolName);
    if (!state) return 'done';
    const object = await this.#ensure(poolName, signal);
    if (state.kind === 'serving') await this.#reportServed(object, state.pool);
    else await this.#reportNotServed(object, state);
    return { againAfterMs: lookMs };
  };

  /** Says that the node plugin is about to end, so that nothing new is placed here. */
  async reportStopped(poolName: string, signal: AbortSignal): Promise<void> {
    const { context, pools, client } = this.#options;
    const object = pools.get(diskPoolName(poolName, context.nodeName));
    if (!object) return;
    const report: Report = new ConditionReport(['Ready']);
    report.report('Ready', 'False', 'Stopped', 'The node plugin was stopped; volumes that are in use go on.');
    await writeStatus(client, object, { conditions: this.#conditions(object, report) }, { signal });
  }

  async #ensure(poolName: string, signal: AbortSignal): Promise<DiskPool> {
    const { context, pools, client } = this.#options;
    const { nodeName } = context;
    const name = diskPoolName(poolName, nodeName);
    const wanted = { metadata: { name }, spec: { poolName, nodeName } };
    return ensureObject(client, pools.get(name), wanted, { signal, fieldManager: fieldManagers.node, force: true });
  }

  async #reportNotServed(object: DiskPool, state: Exclude<PoolState, { kind: 'serving' }>): Promise<void> {
    const report: Report = new ConditionReport(['Ready']);
    const error = state.kind === 'failed' ? state.error : state.kind === 'opened' ? state.refused : undefined;
    if (error === undefined) {
      report.report('Ready', 'False', 'Starting', 'The node plugin has started, and recovers and tests the pool.');
    } else {
      const { reason, message } = failureOf(error);
      report.report('Ready', 'False', reason, message);
      if (findCondition(object.status.conditions, 'Ready')?.message !== report.found('Ready')?.message) {
        this.#options.context.events.record(object, { type: 'Warning', reason, action: 'Serve', note: message });
      }
    }
    await writeStatus(this.#options.client, object, { conditions: this.#conditions(object, report) });
  }

  async #reportServed(object: DiskPool, pool: ServedPool): Promise<void> {
    const { context, client, version } = this.#options;
    const status = await describePool(pool, version);
    const orphans = findOrphans(pool.context.pool, context, object);
    const report: Report = new ConditionReport(conditionNames);
    report.report('Ready', 'True', 'Serving', `The node plugin serves ${pool.context.pool.layout.root}.`);
    reportDataPath(pool, report);
    await this.#reportSpace(object, pool, report);
    reportClaims(orphans, report);
    await writeStatus(client, object, {
      ...status,
      transferAddress: this.#options.transferAddress(),
      export: this.#options.exportReport(),
      conditions: this.#conditions(object, report),
      orphanCount: orphans.count,
      orphans: orphans.listed,
    });
  }

  async #reportSpace(object: DiskPool, { context, pauses }: ServedPool, report: Report): Promise<void> {
    const { freeBytes, criticalBytes, critical, warning } = await context.space.space();
    const free = `${formatBytes(freeBytes)} are free, and the critical mark is at ${formatBytes(criticalBytes)}`;
    const hint = 'delete or trim disks and snapshots, or add space';
    if (pauses.count > 0) {
      const note = `The pool is nearly full, and writes to its mounted disks wait, of which there are ${pauses.count}: ${free}; ${hint}.`;
      report.report('SpaceAvailable', 'False', 'WritesPaused', note);
    } else if (critical) {
      const note = `Nothing that takes space is started any more: ${free}; ${hint}.`;
      report.report('SpaceAvailable', 'False', 'BelowCriticalMark', note);
    } else if (warning) {
      report.report('SpaceAvailable', 'True', 'BelowWarningMark', `Space gets short: ${hint}.`);
    } else {
      report.report('SpaceAvailable', 'True', 'AboveMarks', 'There is more free space than the marks ask for.');
    }
    const found = report.found('SpaceAvailable');
    if (!found || found.reason === 'AboveMarks') return;
    if (findCondition(object.status.conditions, 'SpaceAvailable')?.reason === found.reason) return;
    const { reason, message } = found;
    this.#options.context.events.record(object, { type: 'Warning', reason, action: 'Watch', note: message });
  }

  #conditions(object: DiskPool, report: Report) {
    return report.conditions(object.status.conditions, object.metadata.generation, this.#options.context.clock.now());
  }
}

function reportDataPath({ dataPath }: ServedPool, report: Report): void {
  if (dataPath.proven) {
    report.report('DataPathProven', 'True', 'SelfTestPassed', 'What the self-test wrote was read back right.');
    return;
  }
  const message =
    "The pool was too full for the self-test, so disks are attached by buffered I/O: make room, and restart the node plugin's pod to have it tested.";
  report.report('DataPathProven', 'Unknown', 'NoRoomForSelfTest', message);
}

function reportClaims({ count }: Orphans, report: Report): void {
  if (count === 0) return report.report('Claimed', 'True', 'AllClaimed', 'Everything in the pool has its object.');
  const message = `The pool holds ${count} disks and snapshots without an object; status.orphans lists them. They are kept.`;
  report.report('Claimed', 'False', 'OrphansFound', message);
}
