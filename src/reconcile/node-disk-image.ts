import { finalizers } from '../api/names.ts';
import type { DiskImage } from '../api/objects.ts';
import { writeStatus } from '../kube/apply.ts';
import { ConditionReport, findCondition } from '../kube/conditions.ts';
import type { ReconcileResult } from '../kube/controller.ts';
import type { EventNote } from '../kube/events.ts';
import { ensureFinalizer, hasFinalizer, removeFinalizerIfPresent } from '../kube/finalizers.ts';
import { isBeingDeleted } from '../kube/objects.ts';
import { isLaminaError, LaminaError } from '../lib/errors.ts';
import { formatQuantity } from '../lib/quantity.ts';
import type { DiskRecord } from '../store/records.ts';
import { claimSubject } from './claim.ts';
import { type Failure, failureOf } from './failures.ts';
import { describeDisk, type DiskState, statusOfDisk } from './disk-state.ts';
import { diskIdOfImage, isRecordOf } from './identity.ts';
import { makeDisk } from './make-disk.ts';
import type { NodeContext } from './node-context.ts';
import type { ServedPool } from './node-pools.ts';
import { wasMade } from './was-made.ts';

type ConditionName = 'Placed' | 'Ready' | 'Sized' | 'Healthy';
type Report = ConditionReport<ConditionName>;

/** What cannot be done now is tried again after this, unless something changes before. */
const retryMs = 15_000;
/** A disk in use is looked at this often: what it takes of the pool, and whether it is well. */
const lookMs = 60_000;

/** Makes the disks that the DiskImages of this node ask for, grows and removes them, and reports what is. */
export class NodeDiskImages {
  readonly #context: NodeContext;

  constructor(context: NodeContext) {
    this.#context = context;
  }

  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { images, pools } = this.#context;
    const image = images.get(key);
    if (!image) return 'done';
    if (isBeingDeleted(image)) return this.#remove(image);
    const state = pools.state(image.spec.pool);
    if (!state) return this.#reportNoPool(image);
    // The pool's own object says why it is not served; when it is, all of its disks are looked at.
    if (state.kind !== 'serving') return 'done';
    return this.#bringAbout(image, state.pool, signal);
  };

  async #bringAbout(image: DiskImage, pool: ServedPool, signal: AbortSignal): Promise<ReconcileResult> {
    const id = diskIdOfImage(image, this.#context.systemNamespace);
    const known = pool.context.pool.disks.get(id);
    if (!known && wasMade(image)) return this.#reportLost(image);
    let current = image;
    try {
      let disk = known;
      if (disk) this.#assertOwn(image, disk);
      current = await ensureFinalizer(this.#context.imageClient, image, finalizers.disk, { signal });
      if (!disk) {
        this.#context.checkpoint('make-image/finalizer-added');
        const made = await makeDisk(this.#context, { image: current, pool, signal });
        if ('waitingFor' in made) return await this.#reportWaiting(current, made.waitingFor);
        ({ disk, image: current } = made);
        this.#context.checkpoint('make-image/disk-made');
        this.#tell(image, {
          type: 'Normal',
          reason: 'Made',
          action: 'Make',
          note: noteOf(disk, this.#context.nodeName),
        });
      }
      return await this.#reportDisk(current, pool, await this.#modify(current, pool, disk));
    } catch (error) {
      return this.#reportFailure(current, 'Make', failureOf(error));
    }
  }

  /** @throws LaminaError `name-taken` where the disk of that id is another object's */
  #assertOwn(image: DiskImage, disk: DiskRecord): void {
    if (isRecordOf(disk, image, this.#context.systemNamespace)) return;
    throw new LaminaError(
      'name-taken',
      `the pool ${image.spec.pool} holds a disk under the id ${disk.id} that is called '${disk.name}', and is another object's: declare the DiskImage under another name`,
    );
  }

  /** Changes what can be changed of a disk, but for its size. */
  async #modify(image: DiskImage, pool: ServedPool, disk: DiskRecord): Promise<DiskRecord> {
    const { liveSnapshots } = image.spec;
    return disk.options.liveSnapshots === liveSnapshots ? disk : pool.disks.modify(disk.id, { liveSnapshots });
  }

  async #reportDisk(image: DiskImage, pool: ServedPool, disk: DiskRecord): Promise<ReconcileResult> {
    const report = this.#newReport(image, ['Ready', 'Sized', 'Healthy']);
    const grown = await this.#grow(image, pool, disk, report);
    const state = await describeDisk(pool, grown);
    report.report(
      'Ready',
      'True',
      'Made',
      `The disk is in the pool ${image.spec.pool} of node ${this.#context.nodeName}.`,
    );
    this.#reportHealth(image, state, report);
    await this.#write(image, report, statusOfDisk(state, this.#context.nodeName));
    this.#context.checkpoint('make-image/status-written');
    if (report.found('Sized')?.status !== 'True') return { againAfterMs: retryMs };
    return state.attached ? { againAfterMs: lookMs } : 'done';
  }

  /** @returns the disk as it is now, grown or not */
  async #grow(image: DiskImage, pool: ServedPool, disk: DiskRecord, report: Report): Promise<DiskRecord> {
    const wanted = image.spec.size ?? 0;
    try {
      const grown = await pool.disks.grow(disk.id, { requiredBytes: wanted, limitBytes: 0 });
      if (grown.sizeBytes !== disk.sizeBytes) {
        this.#context.checkpoint('grow-image/disk-grown');
        const note = `The disk has grown from ${formatQuantity(disk.sizeBytes)} to ${formatQuantity(grown.sizeBytes)}.`;
        this.#tell(image, { type: 'Normal', reason: 'Grown', action: 'Grow', note });
      }
      report.report('Sized', 'True', 'AsWanted', 'The disk has the size that was asked for.');
      return grown;
    } catch (error) {
      const { reason, message } = failureOf(error);
      const isWaiting = isLaminaError(error, 'disk-in-use');
      report.report('Sized', 'False', isWaiting ? 'WaitingForDetach' : reason, message);
      this.#tell(image, { type: 'Warning', reason, action: 'Grow', note: message });
      return pool.context.pool.disk(disk.id);
    }
  }

  #reportHealth(image: DiskImage, { unhealthy }: DiskState, report: Report): void {
    if (!unhealthy) return report.report('Healthy', 'True', 'NothingFound', 'No problem was found.');
    report.report('Healthy', 'False', unhealthy.reason, unhealthy.message);
    if (findCondition(image.status.conditions, 'Healthy')?.reason === unhealthy.reason) return;
    const note = { type: 'Warning', reason: unhealthy.reason, action: 'Watch', note: unhealthy.message } as const;
    this.#tell(image, note);
    const claim = claimSubject(image);
    if (claim) this.#context.events.record(claim, note);
  }

  /** Deletes the disk, if it is the object's, then lets the object go. */
  async #remove(image: DiskImage): Promise<ReconcileResult> {
    const { pools, imageClient, checkpoint, systemNamespace } = this.#context;
    if (!hasFinalizer(image, finalizers.disk)) return 'done';
    const { pool: poolName } = image.spec;
    const state = pools.state(poolName);
    const pool = state?.kind === 'serving' ? state.pool : undefined;
    const isNothingMade = image.status.diskId === undefined && !state;
    if (!pool && !isNothingMade) return this.#reportNotDeleted(image);
    try {
      const disk = pool?.context.pool.disks.get(diskIdOfImage(image, systemNamespace));
      if (disk && !isRecordOf(disk, image, systemNamespace)) this.#tellKept(image, disk);
      else if (disk) await pool?.disks.delete(disk.id);
    } catch (error) {
      return this.#reportFailure(image, 'Delete', failureOf(error));
    }
    checkpoint('remove-image/disk-removed');
    await removeFinalizerIfPresent(imageClient, image, finalizers.disk);
    checkpoint('remove-image/finalizer-removed');
    return 'done';
  }

  #tellKept(image: DiskImage, { id, name }: DiskRecord): void {
    const note = `The disk ${id} is kept, as it is called '${name}' and is another object's.`;
    this.#tell(image, { type: 'Warning', reason: 'Released', action: 'Delete', note });
  }

  async #reportNotDeleted(image: DiskImage): Promise<ReconcileResult> {
    const { pool } = image.spec;
    const report = this.#newReport(image, ['Ready']);
    report.report(
      'Ready',
      'False',
      'Deleting',
      `The disk is deleted as soon as node ${this.#context.nodeName} serves its pool ${pool} again.`,
    );
    await this.#write(image, report, {});
    return 'done';
  }

  async #reportNoPool(image: DiskImage): Promise<ReconcileResult> {
    const { pool } = image.spec;
    const message = `Node ${this.#context.nodeName} has no pool ${pool}: declare the disk with a pool that it has, or add one to the node plugin's --pool.`;
    const report = this.#newReport(image, ['Ready']);
    report.report('Placed', 'False', 'PoolNotFound', message);
    report.report('Ready', 'False', 'WaitingForNode', message);
    await this.#write(image, report, {});
    return 'done';
  }

  async #reportWaiting(image: DiskImage, message: string): Promise<ReconcileResult> {
    const report = this.#newReport(image, ['Ready']);
    report.report('Ready', 'False', 'WaitingForSource', message);
    await this.#write(image, report, {});
    return { againAfterMs: retryMs };
  }

  async #reportLost(image: DiskImage): Promise<ReconcileResult> {
    const note = `The disk was made, but the pool ${image.spec.pool} of node ${this.#context.nodeName} does not hold it any more. Nothing is made in its place: bring the pool's directory back, or delete the object.`;
    const report = this.#newReport(image, ['Ready']);
    report.report('Ready', 'False', 'Lost', note);
    if (findCondition(image.status.conditions, 'Ready')?.reason !== 'Lost') {
      this.#tell(image, { type: 'Warning', reason: 'Lost', action: 'Watch', note });
    }
    await this.#write(image, report, {});
    return { againAfterMs: lookMs };
  }

  async #reportFailure(image: DiskImage, action: string, { reason, message }: Failure): Promise<ReconcileResult> {
    const report = this.#newReport(image, ['Ready']);
    report.report('Ready', 'False', reason, message);
    this.#tell(image, { type: 'Warning', reason, action, note: message });
    await this.#write(image, report, {});
    return { againAfterMs: retryMs };
  }

  /** @param types what the caller is going to speak of; other conditions stay as they are */
  #newReport(image: DiskImage, types: readonly ConditionName[]): Report {
    const isPlaced = findCondition(image.status.conditions, 'Placed')?.status === 'True';
    const report: Report = new ConditionReport(isPlaced ? types : ['Placed', ...types]);
    if (!isPlaced) report.report('Placed', 'True', 'NodeGiven', 'Whoever declared the disk named the node.');
    return report;
  }

  async #write(image: DiskImage, report: Report, status: Record<string, unknown>): Promise<void> {
    const { clock, imageClient } = this.#context;
    const { generation } = image.metadata;
    const conditions = report.conditions(image.status.conditions, generation, clock.now());
    await writeStatus(imageClient, image, { observedGeneration: generation, conditions, ...status });
  }

  #tell(image: DiskImage, note: EventNote): void {
    this.#context.events.record(image, note);
  }
}

function noteOf({ sizeBytes, options, source }: DiskRecord, nodeName: string): string {
  const from = source ? ` from the ${source.kind} ${source.id}` : '';
  return `Made a ${options.format} disk of ${formatQuantity(sizeBytes)}${from} on node ${nodeName}.`;
}
