import { failureCode } from '../../api/conditions.ts';
import type { DiskImage } from '../../api/objects.ts';
import { writeStatus } from '../../kube/apply.ts';
import { ConditionReport, findCondition } from '../../kube/conditions.ts';
import type { ReconcileResult } from '../../kube/controller.ts';
import type { EventNote } from '../../kube/events/events.ts';
import type { FailedJob } from './background-jobs.ts';
import type { Failure } from './failures.ts';
import type { NodeContext } from './node-context.ts';

export type ConditionName = 'Placed' | 'Ready' | 'Sized' | 'Healthy';
export type Report = ConditionReport<ConditionName>;
type NotReadyReason = 'WaitingForSource' | 'WaitingForUpload' | 'Making' | 'Importing' | 'Fetching' | 'Deleting';

/** What cannot be done now is tried again after this, unless something changes before. */
export const retryMs = 15_000;
/** A disk in use is looked at this often: what it takes of the pool, and whether it is well. */
export const lookMs = 60_000;

/** Says in a DiskImage and its events what its node finds, does and waits for. */
export class DiskImageReports {
  readonly #context: NodeContext;

  constructor(context: NodeContext) {
    this.#context = context;
  }

  /** @param types what the caller is going to speak of; other conditions stay as they are */
  newReport(image: DiskImage, types: readonly ConditionName[]): Report {
    const isPlaced = findCondition(image.status.conditions, 'Placed')?.status === 'True';
    const report: Report = new ConditionReport(isPlaced ? types : ['Placed', ...types]);
    if (!isPlaced) report.report('Placed', 'True', 'NodeGiven', 'Whoever declared the disk named the node.');
    return report;
  }

  /** @returns the object as it is now */
  async write(image: DiskImage, report: Report, status: Record<string, unknown>): Promise<DiskImage> {
    const { clock, imageClient } = this.#context;
    const { generation } = image.metadata;
    const conditions = report.conditions(image.status.conditions, generation, clock.now());
    return writeStatus(imageClient, image, { observedGeneration: generation, conditions, ...status });
  }

  tell(image: DiskImage, note: EventNote): void {
    this.#context.events.record(image, note);
  }

  /** Says what goes on before the disk is there. @returns the object as it is now */
  async reportNotReady(
    image: DiskImage,
    reason: NotReadyReason,
    message: string,
    status: Record<string, unknown> = {},
  ): Promise<DiskImage> {
    const report = this.newReport(image, ['Ready']);
    report.report('Ready', 'False', reason, message);
    return this.write(image, report, status);
  }

  async reportNotDeleted(image: DiskImage): Promise<ReconcileResult> {
    const message = `The disk is deleted as soon as node ${this.#context.nodeName} serves its pool ${image.spec.pool} again.`;
    await this.reportNotReady(image, 'Deleting', message);
    return 'done';
  }

  async reportNoPool(image: DiskImage): Promise<ReconcileResult> {
    const { pool } = image.spec;
    const message = `Node ${this.#context.nodeName} has no pool ${pool}: declare the disk with a pool that it has, or add one to the node plugin's --pool.`;
    const report = this.newReport(image, ['Ready']);
    report.report('Placed', 'False', 'PoolNotFound', message);
    report.report('Ready', 'False', 'WaitingForNode', message);
    await this.write(image, report, {});
    return 'done';
  }

  /** @param message null where somebody else says it */
  async reportWaiting(image: DiskImage, message: string | null): Promise<ReconcileResult> {
    if (message === null) return 'done';
    await this.reportNotReady(image, 'WaitingForSource', message);
    return { againAfterMs: retryMs };
  }

  async reportLost(image: DiskImage): Promise<ReconcileResult> {
    const note = `The disk was made, but the pool ${image.spec.pool} of node ${this.#context.nodeName} does not hold it any more. Nothing is made in its place: bring the pool's directory back, or delete the object.`;
    const report = this.newReport(image, ['Ready']);
    report.report('Ready', 'False', 'Lost', note);
    if (findCondition(image.status.conditions, 'Ready')?.reason !== 'Lost') {
      this.tell(image, { type: 'Warning', reason: 'Lost', action: 'Watch', note });
    }
    await this.write(image, report, {});
    return { againAfterMs: lookMs };
  }

  /** Says that what has the id of an object that is deleted is another one's, and stays. */
  tellKept(image: DiskImage, { id, name }: { id: string; name: string }): void {
    const note = `What is called ${id} in the pool is kept, as its name is '${name}' and it is another object's.`;
    this.tell(image, { type: 'Warning', reason: 'Released', action: 'Delete', note });
  }

  async reportFailure(image: DiskImage, action: string, failure: Failure): Promise<ReconcileResult> {
    this.#tellFailure(image, action, failure);
    await this.#writeFailure(image, failure);
    return { againAfterMs: retryMs };
  }

  /** The same of work that is not begun again yet. */
  async reportFailedJob(
    image: DiskImage,
    { isNew, againAfterMs }: FailedJob,
    failure: Failure,
  ): Promise<ReconcileResult> {
    if (isNew) this.#tellFailure(image, 'Make', failure);
    await this.#writeFailure(image, failure);
    return { againAfterMs };
  }

  #tellFailure(image: DiskImage, action: string, { reason, message }: Failure): void {
    this.tell(image, { type: 'Warning', reason, action, note: message });
  }

  async #writeFailure(image: DiskImage, { reason, message }: Failure): Promise<void> {
    const report = this.newReport(image, ['Ready']);
    report.report('Ready', 'False', reason, message);
    await this.write(image, report, { progress: null });
  }
}

/** Whether the last that was said of it is that something has failed. */
export function hasFailed({ status }: DiskImage): boolean {
  return failureCode(findCondition(status.conditions, 'Ready')?.reason ?? '') !== undefined;
}

/** For status.progress; never all of it, as there is always something left to do. */
export function percentOf(doneBytes: number, totalBytes: number): string {
  return `${Math.min(99, Math.floor((doneBytes * 100) / totalBytes))}%`;
}
