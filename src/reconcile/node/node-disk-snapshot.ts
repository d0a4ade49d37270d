import { finalizers } from '../../api/names.ts';
import type { DiskSnapshot } from '../../api/objects.ts';
import { writeStatus } from '../../kube/apply.ts';
import { ConditionReport, findCondition, timestampOf } from '../../kube/conditions.ts';
import type { ReconcileResult } from '../../kube/controller.ts';
import { ensureFinalizer, hasFinalizer, removeFinalizerIfPresent } from '../../kube/finalizers.ts';
import { isBeingDeleted } from '../../kube/objects.ts';
import { LaminaError } from '../../lib/errors.ts';
import { formatQuantity } from '../../lib/quantity.ts';
import type { SnapshotRecord } from '../../store/records.ts';
import { failureOf } from './failures.ts';
import { diskIdOfRef, isRecordOf, recordNameOf, snapshotIdOfObject } from '../identity.ts';
import type { NodeContext } from './node-context.ts';
import type { ServedPool } from './node-pools.ts';
import { wasMade } from '../was-made.ts';

const retryMs = 15_000;

interface Finding {
  status: 'True' | 'False';
  reason: string;
  message: string;
}

/** Takes the snapshots that the DiskSnapshots of this node ask for, removes them, and reports what is. */
export class NodeDiskSnapshots {
  readonly #context: NodeContext;

  constructor(context: NodeContext) {
    this.#context = context;
  }

  readonly reconcile = async (key: string): Promise<ReconcileResult> => {
    const snapshot = this.#context.snapshots.get(key);
    if (!snapshot) return 'done';
    if (isBeingDeleted(snapshot)) return this.#remove(snapshot);
    const { pools } = this.#context;
    const id = snapshotIdOfObject(snapshot, this.#context.systemNamespace);
    const holder = pools.served.find((pool) => recordIn(pool, id));
    const record = holder && recordIn(holder, id);
    if (record?.state === 'ready') return this.#reportFound(snapshot, record);
    // It may be in a pool that is not served now; when that is, all of them are looked at.
    if (!pools.areAllServed) return 'done';
    if (wasMade(snapshot)) return this.#reportLost(snapshot);
    return this.#take(snapshot);
  };

  async #reportFound(snapshot: DiskSnapshot, record: SnapshotRecord): Promise<ReconcileResult> {
    if (!this.#isOwn(snapshot, record)) {
      const words = `a snapshot of that name exists, '${record.name}' of the disk ${record.disk}, and is another object's: declare the DiskSnapshot under another name`;
      return this.#reportFailure(snapshot, 'Take', new LaminaError('name-taken', words));
    }
    // Whoever takes it away later wants the object gone without its snapshot.
    const held = wasMade(snapshot)
      ? snapshot
      : await ensureFinalizer(this.#context.snapshotClient, snapshot, finalizers.snapshot);
    return this.#reportTaken(held, record);
  }

  /** Whether it is the snapshot that the object asks for, and not one of an earlier object of its name. */
  #isOwn(snapshot: DiskSnapshot, record: SnapshotRecord): boolean {
    const { systemNamespace } = this.#context;
    const disk = { namespace: snapshot.metadata.namespace, name: snapshot.spec.diskImageName };
    return isRecordOf(record, snapshot, systemNamespace) && record.disk === diskIdOfRef(disk, systemNamespace);
  }

  async #take(snapshot: DiskSnapshot): Promise<ReconcileResult> {
    const { pools, systemNamespace, snapshotClient, checkpoint, events } = this.#context;
    const { namespace } = snapshot.metadata;
    const { diskImageName } = snapshot.spec;
    const diskId = diskIdOfRef({ namespace, name: diskImageName }, systemNamespace);
    const pool = pools.findDisk(diskId);
    if (!pool) {
      const message = `No pool of node ${this.#context.nodeName} holds the disk of DiskImage ${diskImageName}: it is not made yet, or gone.`;
      return this.#report(snapshot, { status: 'False', reason: 'WaitingForDisk', message });
    }
    const current = await ensureFinalizer(snapshotClient, snapshot, finalizers.snapshot);
    checkpoint('make-snapshot/finalizer-added');
    try {
      const record = await pool.disks.createSnapshot({ name: recordNameOf(snapshot, systemNamespace), diskId });
      checkpoint('make-snapshot/snapshot-made');
      const note = `Snapshot of DiskImage ${diskImageName} taken.`;
      events.record(snapshot, { type: 'Normal', reason: 'Taken', action: 'Take', note });
      return await this.#reportTaken(current, record);
    } catch (error) {
      return this.#reportFailure(current, 'Take', error);
    }
  }

  async #remove(snapshot: DiskSnapshot): Promise<ReconcileResult> {
    const { pools, snapshotClient, checkpoint, systemNamespace, nodeName } = this.#context;
    if (!hasFinalizer(snapshot, finalizers.snapshot)) return 'done';
    const id = snapshotIdOfObject(snapshot, systemNamespace);
    const holder = pools.served.find((pool) => recordIn(pool, id));
    const { pool: poolName } = snapshot.status;
    // A pool that the node is not told to have any more may come back with the snapshot.
    const isAway = poolName !== undefined && !pools.state(poolName);
    if (!holder && (isAway || !pools.areAllServed)) {
      const which = isAway ? `its pool ${poolName}` : 'all of its pools';
      const message = `The snapshot is deleted as soon as node ${nodeName} serves ${which} again.`;
      return this.#report(snapshot, { status: 'False', reason: 'Deleting', message });
    }
    const record = holder && recordIn(holder, id);
    try {
      if (record && !this.#isOwn(snapshot, record)) this.#tellKept(snapshot, record);
      else await holder?.disks.deleteSnapshot(id);
    } catch (error) {
      return this.#reportFailure(snapshot, 'Delete', error);
    }
    checkpoint('remove-snapshot/snapshot-removed');
    await removeFinalizerIfPresent(snapshotClient, snapshot, finalizers.snapshot);
    checkpoint('remove-snapshot/finalizer-removed');
    return 'done';
  }

  #tellKept(snapshot: DiskSnapshot, { id, name, disk }: SnapshotRecord): void {
    const note = `The snapshot ${id} is kept, as it is '${name}' of the disk ${disk} and another object's.`;
    this.#context.events.record(snapshot, { type: 'Warning', reason: 'Released', action: 'Delete', note });
  }

  async #reportTaken(snapshot: DiskSnapshot, record: SnapshotRecord): Promise<ReconcileResult> {
    const { nodeName } = this.#context;
    await this.#report(
      snapshot,
      { status: 'True', reason: 'Taken', message: `The snapshot is on node ${nodeName}.` },
      {
        snapshotId: record.id,
        pool: this.#poolNameOf(record.id),
        nodeName,
        creationTime: timestampOf(new Date(record.createdAt)),
        restoreSize: formatQuantity(record.sizeBytes),
      },
    );
    this.#context.checkpoint('make-snapshot/status-written');
    return 'done';
  }

  #poolNameOf(id: string): string | undefined {
    const { pools } = this.#context;
    return pools.places
      .map(({ name }) => name)
      .find((name) => {
        const state = pools.state(name);
        return state?.kind === 'serving' && recordIn(state.pool, id) !== undefined;
      });
  }

  async #reportLost(snapshot: DiskSnapshot): Promise<ReconcileResult> {
    const message = `The snapshot was taken, but no pool of node ${this.#context.nodeName} holds it any more: bring the pool's directory back, or delete the object.`;
    if (findCondition(snapshot.status.conditions, 'Ready')?.reason !== 'Lost') {
      this.#context.events.record(snapshot, { type: 'Warning', reason: 'Lost', action: 'Watch', note: message });
    }
    return this.#report(snapshot, { status: 'False', reason: 'Lost', message });
  }

  async #reportFailure(snapshot: DiskSnapshot, action: string, error: unknown): Promise<ReconcileResult> {
    const { reason, message } = failureOf(error);
    this.#context.events.record(snapshot, { type: 'Warning', reason, action, note: message });
    return this.#report(snapshot, { status: 'False', reason, message });
  }

  async #report(
    snapshot: DiskSnapshot,
    { status, reason, message }: Finding,
    members: Record<string, unknown> = {},
  ): Promise<ReconcileResult> {
    const { clock, snapshotClient } = this.#context;
    const { generation } = snapshot.metadata;
    const report = new ConditionReport<'Ready'>(['Ready']);
    report.report('Ready', status, reason, message);
    const conditions = report.conditions(snapshot.status.conditions, generation, clock.now());
    await writeStatus(snapshotClient, snapshot, { observedGeneration: generation, conditions, ...members });
    return status === 'True' ? 'done' : { againAfterMs: retryMs };
  }
}

function recordIn({ context }: ServedPool, id: string): SnapshotRecord | undefined {
  const { snapshots }: { snapshots: ReadonlyMap<string, SnapshotRecord> } = context.pool;
  const record = snapshots.get(id);
  return record?.transient ? undefined : record;
}
