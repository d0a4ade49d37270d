import { finalizers } from '../../api/names.ts';
import type { DiskImage } from '../../api/objects.ts';
import { findCondition } from '../../kube/conditions.ts';
import type { ReconcileResult } from '../../kube/controller.ts';
import { ensureFinalizer, hasFinalizer, removeFinalizerIfPresent } from '../../kube/finalizers.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import { isLaminaError } from '../../lib/errors.ts';
import { formatQuantity } from '../../lib/quantity.ts';
import type { DiskRecord } from '../../store/records.ts';
import type { FetchedContent } from '../../transfer/layers/layer-receiver.ts';
import { claimSubject } from '../claim.ts';
import { DiskImageReports, lookMs, type Report, retryMs } from './disk-image-report.ts';
import { describeDisk, type DiskState, statusOfDisk } from './disk-state.ts';
import { failureOf } from './failures.ts';
import { assertOwnRecord, diskIdOfImage, isRecordOf } from '../identity.ts';
import { fetchFor } from './fetch-for.ts';
import { makeDisk, makeFetchedDisk } from './make-disk.ts';
import type { NodeContext } from './node-context.ts';
import type { ServedPool } from './node-pools.ts';
import { NodeSealedImages } from './node-sealed-image.ts';
import { wasMade } from '../was-made.ts';

/** Makes the disks that the DiskImages of this node ask for, grows and removes them, and reports what is. */
export class NodeDiskImages {
  readonly #context: NodeContext;
  readonly #reports: DiskImageReports;
  readonly #sealed: NodeSealedImages;

  constructor(context: NodeContext) {
    this.#context = context;
    this.#reports = new DiskImageReports(context);
    this.#sealed = new NodeSealedImages(context, this.#reports);
  }

  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { images, pools } = this.#context;
    const image = images.get(key);
    if (!image) return this.#forget(key);
    if (isBeingDeleted(image)) return this.#remove(image);
    const state = pools.state(image.spec.pool);
    if (!state) return this.#reports.reportNoPool(image);
    // The pool's own object says why it is not served; when it is, all of its disks are looked at.
    if (state.kind !== 'serving') return 'done';
    return image.spec.sealed
      ? this.#sealed.bringAbout(image, state.pool, signal)
      : this.#bringAbout(image, state.pool, signal);
  };

  /** What is on its way for an object that vanished would become an image that nobody has declared. */
  async #forget(key: string): Promise<ReconcileResult> {
    const { imports, uploads, fetches } = this.#context;
    await Promise.all([imports.abort(key), uploads.abort(key), fetches.abort(key)]);
    return 'done';
  }

  async #bringAbout(image: DiskImage, pool: ServedPool, signal: AbortSignal): Promise<ReconcileResult> {
    const id = diskIdOfImage(image, this.#context.systemNamespace);
    const known = pool.context.pool.disks.get(id);
    if (!known && wasMade(image)) return this.#reports.reportLost(image);
    let current = image;
    try {
      let disk = known;
      if (disk) assertOwnRecord(disk, image, this.#context.systemNamespace);
      // Whoever takes it away later wants the object gone without its disk.
      if (!wasMade(image)) {
        current = await ensureFinalizer(this.#context.imageClient, image, finalizers.disk, { signal });
      }
      if (!disk) {
        this.#context.checkpoint('make-image/finalizer-added');
        const made = await makeDisk(this.#context, { image: current, pool, signal });
        if ('origin' in made) {
          const { origin } = made;
          const wish = { image: current, pool };
          const use = (content: FetchedContent) => makeFetchedDisk(this.#context, wish, origin, content);
          return await fetchFor(this.#context, this.#reports, { ...wish, origin, use });
        }
        if ('waitingFor' in made) return await this.#reports.reportWaiting(current, made.waitingFor);
        ({ disk, image: current } = made);
        this.#context.checkpoint('make-image/disk-made');
        this.#reports.tell(image, {
          type: 'Normal',
          reason: 'Made',
          action: 'Make',
          note: noteOf(disk, this.#context.nodeName),
        });
      }
      return await this.#reportDisk(current, pool, await this.#modify(current, pool, disk));
    } catch (error) {
      return this.#reports.reportFailure(current, 'Make', failureOf(error));
    }
  }

  /** Changes what can be changed of a disk, but for its size. */
  async #modify(image: DiskImage, pool: ServedPool, disk: DiskRecord): Promise<DiskRecord> {
    const { liveSnapshots } = image.spec;
    return disk.options.liveSnapshots === liveSnapshots ? disk : pool.disks.modify(disk.id, { liveSnapshots });
  }

  async #reportDisk(image: DiskImage, pool: ServedPool, disk: DiskRecord): Promise<ReconcileResult> {
    const report = this.#reports.newReport(image, ['Ready', 'Sized', 'Healthy']);
    const grown = await this.#grow(image, pool, disk, report);
    const state = await describeDisk(pool, grown);
    report.report(
      'Ready',
      'True',
      'Made',
      `The disk is in the pool ${image.spec.pool} of node ${this.#context.nodeName}.`,
    );
    this.#reportHealth(image, state, report);
    await this.#reports.write(image, report, statusOfDisk(state, this.#context.nodeName));
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
        this.#reports.tell(image, { type: 'Normal', reason: 'Grown', action: 'Grow', note });
      }
      report.report('Sized', 'True', 'AsWanted', 'The disk has the size that was asked for.');
      return grown;
    } catch (error) {
      const { reason, message } = failureOf(error);
      const isWaiting = isLaminaError(error, 'disk-in-use');
      report.report('Sized', 'False', isWaiting ? 'WaitingForDetach' : reason, message);
      this.#reports.tell(image, { type: 'Warning', reason, action: 'Grow', note: message });
      return pool.context.pool.disk(disk.id);
    }
  }

  #reportHealth(image: DiskImage, { unhealthy }: DiskState, report: Report): void {
    if (!unhealthy) return report.report('Healthy', 'True', 'NothingFound', 'No problem was found.');
    report.report('Healthy', 'False', unhealthy.reason, unhealthy.message);
    if (findCondition(image.status.conditions, 'Healthy')?.reason === unhealthy.reason) return;
    const note = { type: 'Warning', reason: unhealthy.reason, action: 'Watch', note: unhealthy.message } as const;
    this.#reports.tell(image, note);
    const claim = claimSubject(image);
    if (claim) this.#context.events.record(claim, note);
  }

  /** Deletes the disk, if it is the object's, then lets the object go. */
  async #remove(image: DiskImage): Promise<ReconcileResult> {
    const { pools, imageClient, checkpoint } = this.#context;
    if (!hasFinalizer(image, finalizers.disk)) return 'done';
    const { pool: poolName } = image.spec;
    const state = pools.state(poolName);
    const pool = state?.kind === 'serving' ? state.pool : undefined;
    const isNothingMade = image.status.diskId === undefined && !state;
    if (!pool && !isNothingMade) return this.#reports.reportNotDeleted(image);
    try {
      if (pool && image.spec.sealed) await this.#sealed.remove(image, pool);
      else if (pool) await this.#removeDisk(image, pool);
    } catch (error) {
      return this.#reports.reportFailure(image, 'Delete', failureOf(error));
    }
    checkpoint('remove-image/disk-removed');
    await removeFinalizerIfPresent(imageClient, image, finalizers.disk);
    checkpoint('remove-image/finalizer-removed');
    return 'done';
  }

  async #removeDisk(image: DiskImage, pool: ServedPool): Promise<void> {
    const { systemNamespace, fetches } = this.#context;
    await fetches.abort(keyOf(image.metadata));
    const disk = pool.context.pool.disks.get(diskIdOfImage(image, systemNamespace));
    if (!disk) return;
    if (isRecordOf(disk, image, systemNamespace)) await pool.disks.delete(disk.id);
    else this.#reports.tellKept(image, disk);
  }
}

function noteOf({ sizeBytes, options, source }: DiskRecord, nodeName: string): string {
  const from = source ? ` from the ${source.kind} ${source.id}` : '';
  return `Made a ${options.format} disk of ${formatQuantity(sizeBytes)}${from} on node ${nodeName}.`;
}
