import { stat } from 'node:fs/promises';
import type { DiskImage } from '../../api/objects.ts';
import { writeStatus } from '../../kube/apply.ts';
import { ConditionReport } from '../../kube/conditions.ts';
import { ifErrno } from '../../lib/errors.ts';
import { parseQuantity } from '../../lib/quantity.ts';
import type { DiskRecord } from '../../store/records.ts';
import type { FetchedContent } from '../../transfer/layers/layer-receiver.ts';
import { percentOf } from './disk-image-report.ts';
import { recordNameOf } from '../identity.ts';
import type { Origin } from '../origin.ts';
import type { NodeContext } from './node-context.ts';
import type { ServedPool } from './node-pools.ts';
import { findSource } from './source-content.ts';

export interface MakeDiskRequest {
  image: DiskImage;
  pool: ServedPool;
  signal: AbortSignal;
}

/** How often it is said how far a disk is that takes long to be made, and from when on. */
const progressMs = 2000;

/**
 * Makes the disk that a DiskImage asks for, or finds the one that was made before.
 *
 * @returns the disk, and the object as it is now; or what is waited for; or on which other node the source is
 * @throws LaminaError as Disks' `create`
 */
export async function makeDisk(
  context: NodeContext,
  { image, pool, signal }: MakeDiskRequest,
): Promise<{ disk: DiskRecord; image: DiskImage } | { waitingFor: string | null } | { origin: Origin }> {
  const source = findSource(context, image, pool);
  if (source.kind === 'waiting') return { waitingFor: source.message };
  if (source.kind === 'remote') return { origin: source.origin };
  const progress = new Progress(context, image, signal);
  const { size = 0 } = image.spec;
  try {
    const disk = await pool.disks.create({
      ...wishOf(context, image),
      source: source.kind === 'found' ? source.content : null,
      onBuild: (file) => progress.watch(file, size),
    });
    return { disk, image: await progress.end() };
  } catch (error) {
    await progress.end();
    throw error;
  }
}

/** Makes the disk of what was brought here from another node; its layer is pinned. @throws LaminaError as Disks' `create` */
export async function makeFetchedDisk(
  context: NodeContext,
  { image, pool }: Omit<MakeDiskRequest, 'signal'>,
  { kind, id }: Origin,
  content: FetchedContent,
): Promise<void> {
  await pool.disks.create({ ...wishOf(context, image), source: { kind, id }, content });
}

function wishOf({ systemNamespace }: NodeContext, image: DiskImage) {
  const { format, preallocation, liveSnapshots, size = 0 } = image.spec;
  return {
    name: recordNameOf(image, systemNamespace),
    size: { requiredBytes: size, limitBytes: 0 },
    options: { format, preallocation, clusterSizeBytes: clusterSizeBytesOf(image), liveSnapshots },
  };
}

/** Null: the default. */
export function clusterSizeBytesOf({ spec: { clusterSize } }: DiskImage): number | null {
  return clusterSize === undefined ? null : (parseQuantity(clusterSize) ?? null);
}

/** Says in the status of a DiskImage how far its file is written, while that takes long. */
class Progress {
  readonly #context: NodeContext;
  readonly #signal: AbortSignal;
  #image: DiskImage;
  #cancel = () => {};
  #writing: Promise<void> = Promise.resolve();

  constructor(context: NodeContext, image: DiskImage, signal: AbortSignal) {
    this.#context = context;
    this.#image = image;
    this.#signal = signal;
  }

  watch(file: string, sizeBytes: number): void {
    this.#cancel = this.#context.clock.schedule(progressMs, () => {
      this.#writing = this.#write(file, sizeBytes).then(
        () => this.watch(file, sizeBytes),
        // It is only said, and again in a moment; what is wrong with the API server shows when the disk is made.
        () => {},
      );
    });
  }

  /** @returns the object as it is now */
  async end(): Promise<DiskImage> {
    this.#cancel();
    await this.#writing;
    this.#cancel();
    return this.#image;
  }

  async #write(file: string, sizeBytes: number): Promise<void> {
    const blocks = (await stat(file).catch(ifErrno('ENOENT', null)))?.blocks ?? 0;
    const report = new ConditionReport<'Ready'>(['Ready']);
    report.report('Ready', 'False', 'Making', 'The node is making the disk; status.progress says how far it is.');
    const { generation } = this.#image.metadata;
    const conditions = report.conditions(this.#image.status.conditions, generation, this.#context.clock.now());
    const status = { observedGeneration: generation, progress: percentOf(blocks * 512, sizeBytes), conditions };
    this.#image = await writeStatus(this.#context.imageClient, this.#image, status, { signal: this.#signal });
  }
}
