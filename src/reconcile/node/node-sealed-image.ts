import { stat } from 'node:fs/promises';
import { failureCode } from '../../api/conditions.ts';
import { isImported } from '../../api/disk-source.ts';
import { finalizers } from '../../api/names.ts';
import type { DiskImage } from '../../api/objects.ts';
import { findCondition } from '../../kube/conditions.ts';
import type { ReconcileResult } from '../../kube/controller.ts';
import { ensureFinalizer } from '../../kube/finalizers.ts';
import { keyOf } from '../../kube/objects.ts';
import { formatBytes } from '../../lib/bytes.ts';
import { type ErrorCode, LaminaError } from '../../lib/errors.ts';
import { formatQuantity, formatRoundedQuantity } from '../../lib/quantity.ts';
import type { Pool } from '../../store/pool.ts';
import type { DiskSource, ImageRecord } from '../../store/records.ts';
import { type ImportProgress, isFinalImportCode } from '../../transfer/import/import-request.ts';
import type { FailedJob } from './background-jobs.ts';
import { type DiskImageReports, hasFailed, percentOf } from './disk-image-report.ts';
import { failureOf } from './failures.ts';
import { assertOwnRecord, imageIdOfObject, isRecordOf, recordNameOf } from '../identity.ts';
import { importSourceOf } from './import-source.ts';
import { fetchFor } from './fetch-for.ts';
import type { Origin } from '../origin.ts';
import { clusterSizeBytesOf } from './make-disk.ts';
import type { NodeContext } from './node-context.ts';
import type { ServedPool } from './node-pools.ts';
import { findSource } from './source-content.ts';
import { awaitedImageOf } from './upload-sinks.ts';
import { wasMade } from '../was-made.ts';

/** How often it is said how far an import is. */
const progressMs = 2000;

/** Makes, reports and removes the content of sealed DiskImages: imported, or taken of what a pool of this node holds. */
export class NodeSealedImages {
  readonly #context: NodeContext;
  readonly #reports: DiskImageReports;

  constructor(context: NodeContext, reports: DiskImageReports) {
    this.#context = context;
    this.#reports = reports;
  }

  async bringAbout(image: DiskImage, pool: ServedPool, signal: AbortSignal): Promise<ReconcileResult> {
    const known = pool.context.pool.images.get(imageIdOfObject(image, this.#context.systemNamespace));
    if (!known && wasMade(image)) return this.#reports.reportLost(image);
    // What was refused of an upload is gone, and another file can be sent.
    const isUploaded = image.spec.source.type === 'upload';
    if (hasFailedForGood(image) && (known || !isUploaded)) return 'done';
    let current = image;
    try {
      if (known) assertOwnRecord(known, image, this.#context.systemNamespace);
      if (!wasMade(image)) {
        current = await ensureFinalizer(this.#context.imageClient, image, finalizers.disk, { signal });
      }
      if (known) return await this.#reportMade(current, pool, known);
      this.#context.checkpoint('make-image/finalizer-added');
      if (isUploaded) return await this.#receive(current, pool, signal);
      return await (isImported(image.spec.source) ? this.#import(current, pool, signal) : this.#take(current, pool));
    } catch (error) {
      return this.#reports.reportFailure(current, 'Make', failureOf(error));
    }
  }

  /** Idempotent. Disks that started from it keep what they share with it. */
  async remove(image: DiskImage, pool: ServedPool): Promise<void> {
    const { systemNamespace, imports, fetches, uploads } = this.#context;
    await fetches.abort(keyOf(image.metadata));
    await uploads.abort(keyOf(image.metadata));
    await imports.discard(keyOf(image.metadata), pool, recordNameOf(image, systemNamespace));
    const record = pool.context.pool.images.get(imageIdOfObject(image, systemNamespace));
    if (!record) return;
    if (isRecordOf(record, image, systemNamespace)) await pool.images.delete(record.id);
    else this.#reports.tellKept(image, record);
  }

  /** Of a disk or snapshot that is there: the content gets one more name. */
  async #take(image: DiskImage, pool: ServedPool): Promise<ReconcileResult> {
    const source = findSource(this.#context, image, pool);
    if (source.kind === 'remote') return this.#fetch(image, pool, source.origin);
    if (source.kind === 'waiting') return this.#reports.reportWaiting(image, source.message);
    if (source.kind === 'none') {
      throw new LaminaError(
        'invalid-parameter',
        'a sealed DiskImage needs a source: declare one, or say sealed: false',
      );
    }
    const { content } = source;
    // Nothing that is refused then is kept for it.
    assertFits(image, sizeOfContent(pool.context.pool, content));
    const record = await pool.images.create({
      name: recordNameOf(image, this.#context.systemNamespace),
      source: content,
    });
    this.#context.checkpoint('make-image/disk-made');
    const note = `Sealed what the ${content.kind} ${content.id} holds; nothing was copied.`;
    this.#reports.tell(image, { type: 'Normal', reason: 'Made', action: 'Make', note });
    return this.#reportMade(image, pool, record);
  }

  /** Of what another node has: its layers are brought here. */
  async #fetch(image: DiskImage, pool: ServedPool, origin: Origin): Promise<ReconcileResult> {
    const name = recordNameOf(image, this.#context.systemNamespace);
    return fetchFor(this.#context, this.#reports, {
      image,
      pool,
      origin,
      use: async (content) => {
        assertFits(image, content.sizeBytes);
        return pool.images.adopt(name, content);
      },
    });
  }

  /** Waits for somebody to send the file, and makes the image of it. */
  async #receive(image: DiskImage, pool: ServedPool, signal: AbortSignal): Promise<ReconcileResult> {
    const { imports, uploads, systemNamespace } = this.#context;
    const key = keyOf(image.metadata);
    const awaited = awaitedImageOf(image, systemNamespace);
    if (!awaited || imports.has(key)) return this.#import(image, pool, signal);
    const { state, receivedBytes, totalBytes } = await uploads.look(key, pool, awaited);
    if (state === 'complete') return this.#import(image, pool, signal);
    const importedBytes = receivedBytes;
    if (state === 'receiving') {
      const progress = { stage: 'downloading', doneBytes: receivedBytes, totalBytes } as const;
      const words = `Receiving the upload: ${amountOf(progress)}.`;
      await this.#reports.reportNotReady(image, 'Importing', words, { progress: progressOf(progress), importedBytes });
      return { againAfterMs: progressMs };
    }
    // It says why another upload is waited for.
    if (receivedBytes === 0 && isLostWith(failureOfReady(image))) return 'done';
    const message = wordsForUpload(image, { receivedBytes, isEnabled: uploads.isEnabled });
    await this.#reports.reportNotReady(image, 'WaitingForUpload', message, { progress: null, importedBytes });
    return 'done';
  }

  async #import(image: DiskImage, pool: ServedPool, signal: AbortSignal): Promise<ReconcileResult> {
    const { imports } = this.#context;
    const key = keyOf(image.metadata);
    const state = imports.look(key);
    if (state?.kind === 'failed') return this.#reportFailedImport(image, state);
    if (!state) imports.start(key, pool, await this.#requestOf(image, signal));
    const progress = state?.progress ?? { stage: 'waiting', doneBytes: 0, totalBytes: null };
    // What has failed is said to go on when it does, and not each time it is tried again.
    const isUploaded = image.spec.source.type === 'upload';
    if (!isUploaded && hasFailed(image) && progress.doneBytes === 0) return { againAfterMs: progressMs };
    if (!state) {
      this.#reports.tell(image, {
        type: 'Normal',
        reason: 'Importing',
        action: 'Import',
        note: `Importing to node ${this.#context.nodeName}.`,
      });
    }
    await this.#reports.reportNotReady(image, 'Importing', wordsFor(progress), {
      progress: progressOf(progress),
      ...(progress.stage === 'downloading' ? { importedBytes: progress.doneBytes } : {}),
    });
    return { againAfterMs: progressMs };
  }

  async #reportFailedImport(image: DiskImage, job: FailedJob): Promise<ReconcileResult> {
    const { reason, message } = failureOf(job.error);
    const isLost = image.spec.source.type === 'upload' && isLostWith(failureCode(reason));
    if (!isLost) return this.#reports.reportFailedJob(image, job, { reason, message });
    // Whoever sends it again does not have to wait.
    await this.#context.imports.abort(keyOf(image.metadata));
    return this.#reports.reportFailedJob(image, job, {
      reason,
      message: `${message}. Send it again, or another file.`,
    });
  }

  async #requestOf(image: DiskImage, signal: AbortSignal) {
    const { systemNamespace, importSecrets } = this.#context;
    const { format, size } = image.spec;
    return {
      name: recordNameOf(image, systemNamespace),
      source: await importSourceOf(image, importSecrets, signal),
      format,
      sizeBytes: size ?? null,
      clusterSizeBytes: clusterSizeBytesOf(image),
    };
  }

  async #reportMade(image: DiskImage, pool: ServedPool, record: ImageRecord): Promise<ReconcileResult> {
    const { nodeName } = this.#context;
    assertFits(image, record.sizeBytes);
    const chain = pool.context.pool.chain(record.layer);
    const [layer] = chain;
    const { blocks } = layer ? await stat(layer.path) : { blocks: 0 };
    const report = this.#reports.newReport(image, ['Ready', 'Sized', 'Healthy']);
    report.report('Ready', 'True', 'Made', `The content is in the pool ${image.spec.pool} of node ${nodeName}.`);
    report.report('Sized', 'True', 'AsWanted', 'The disk has the size that was asked for.');
    report.report('Healthy', 'True', 'NothingFound', 'No problem was found.');
    await this.#reports.write(image, report, {
      diskId: record.id,
      nodeName,
      virtualSize: formatQuantity(record.sizeBytes),
      allocated: formatRoundedQuantity(blocks * 512, 'up'),
      format: layer?.format ?? 'qcow2',
      chainDepth: chain.length,
      attached: false,
      progress: null,
      ...(record.digest === null ? {} : { digest: record.digest }),
    });
    this.#context.checkpoint('make-image/status-written');
    return 'done';
  }
}

function sizeOfContent(pool: Pool, { kind, id }: DiskSource): number {
  if (kind === 'disk') return pool.disk(id).sizeBytes;
  return kind === 'image' ? pool.image(id).sizeBytes : pool.snapshot(id).sizeBytes;
}

/** @throws LaminaError `size-out-of-range` where more is asked for than the content has, which stays as it is */
function assertFits({ spec: { size } }: DiskImage, contentBytes: number): void {
  if (size === undefined || size <= contentBytes) return;
  throw new LaminaError(
    'size-out-of-range',
    `the content has ${formatQuantity(contentBytes)}, and a sealed DiskImage of ${formatQuantity(size)} was asked for: declare it without size, and give that to the disks that start from it`,
  );
}

/** Whether trying again changes nothing: what was asked for, or its source, has to be another one. */
function hasFailedForGood(image: DiskImage): boolean {
  const code = failureOfReady(image);
  return code !== undefined && isFinalImportCode(code);
}

/** Whether what was uploaded is not there any more after such a failure. */
function isLostWith(code: ErrorCode | undefined): boolean {
  return code !== undefined && (isFinalImportCode(code) || code === 'pool-full');
}

function failureOfReady({ metadata, status }: DiskImage): ErrorCode | undefined {
  const ready = findCondition(status.conditions, 'Ready');
  if (ready?.status !== 'False' || status.observedGeneration !== metadata.generation) return undefined;
  return failureCode(ready.reason);
}

function progressOf({ stage, doneBytes, totalBytes }: ImportProgress): string | null {
  if (stage === 'converting' || stage === 'unpacking') return '99%';
  if (stage === 'waiting' || totalBytes === null || totalBytes === 0) return null;
  return percentOf(doneBytes, totalBytes);
}

function wordsFor({ stage, doneBytes, totalBytes }: ImportProgress): string {
  switch (stage) {
    case 'waiting':
      return 'Waiting for its turn: as many imports run on the node as may.';
    case 'downloading':
      return `Downloading: ${amountOf({ doneBytes, totalBytes })}.`;
    case 'unpacking':
      return `Unpacking: ${formatBytes(doneBytes)} written.`;
    case 'converting':
      return `Converting: ${formatBytes(doneBytes)} written.`;
  }
}

function amountOf({ doneBytes, totalBytes }: Pick<ImportProgress, 'doneBytes' | 'totalBytes'>): string {
  return `${formatBytes(doneBytes)} of ${totalBytes === null ? 'an unknown size' : formatBytes(totalBytes)}`;
}

function wordsForUpload(
  { metadata: { namespace, name } }: DiskImage,
  { receivedBytes, isEnabled }: { receivedBytes: number; isEnabled: boolean },
): string {
  if (!isEnabled) {
    return 'This node takes no uploads: its node plugin was started without --export-listen (export.enabled of the chart).';
  }
  const how = `kubectl lamina upload FILE ${name} -n ${namespace}, or as docs/users/export.md says`;
  if (receivedBytes === 0) return `Waiting for the file of the disk image: send it with ${how}.`;
  return `The upload broke off after ${formatBytes(receivedBytes)} (${receivedBytes} bytes): send the rest, or all, with ${how}.`;
}
