import { execFileSync } from 'node:child_process';
import { createReadStream, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Checkpoint } from '../src/lib/checkpoint.ts';
import { systemClock } from '../src/lib/clock.ts';
import { TokenBucket } from '../src/lib/token-bucket.ts';
import type { StoreStep } from '../src/store/steps.ts';
import type { ImageRecord } from '../src/store/records.ts';
import { ImportGate } from '../src/transfer/import/import-gate.ts';
import { importImage } from '../src/transfer/import/import-image.ts';
import type {
  HttpSource,
  ImportContext,
  ImportRequest,
  RegistrySource,
  UploadSource,
} from '../src/transfer/import/import-request.ts';
import { keptUpload, receiveUpload } from '../src/transfer/import/receive-upload.ts';
import type { ImportStep } from '../src/transfer/layers/steps.ts';
import { type DetachedPool, openDetachedPool, removeDirectory, temporaryDirectory } from './detached-pool.ts';

export function importContext(
  { pool, space, images }: DetachedPool,
  checkpoint: Checkpoint<ImportStep | StoreStep> = () => {},
): ImportContext {
  return {
    pool,
    space,
    lock: (id, work) => images.lock(id, work),
    limit: new TokenBucket(Number.POSITIVE_INFINITY, systemClock),
    gate: new ImportGate(2),
    clock: systemClock,
    checkpoint,
    // Nothing comes for a second where the machine is busy with something else.
    stallMs: 30_000,
    mayReachItself: true,
  };
}

/** A pool to import into, in a directory of the test's own. */
export class ImportPool {
  readonly directory: string;
  readonly detached: DetachedPool;
  readonly context: ImportContext;

  static async open(): Promise<ImportPool> {
    const directory = temporaryDirectory();
    mkdirSync(path.join(directory, 'pool'));
    return new ImportPool(directory, await openDetachedPool(path.join(directory, 'pool')));
  }

  private constructor(directory: string, detached: DetachedPool) {
    this.directory = directory;
    this.detached = detached;
    this.context = importContext(detached);
  }

  /** What imports have left on their way. */
  left(): string[] {
    return ['incoming', 'tmp'].flatMap((name) => readdirSync(path.join(this.detached.directory, name)));
  }

  async remove(): Promise<void> {
    await this.detached.release();
    removeDirectory(this.directory);
  }
}

export type Wish = Partial<Omit<ImportRequest, 'source'>> & Partial<HttpSource> & { url: string };

export async function importFrom(context: ImportContext, wish: Wish): Promise<ImageRecord> {
  const { url, checksum = null, headers = {}, certificateAuthority = null, ...rest } = wish;
  const source = { kind: 'http', url, checksum, headers, certificateAuthority } as const;
  return importImage(context, { ...usual(), ...rest, source });
}

export type ContainedWish = Partial<Omit<ImportRequest, 'source'>> & Partial<RegistrySource> & { image: string };

/** The same from a registry. */
export async function importContained(context: ImportContext, wish: ContainedWish): Promise<ImageRecord> {
  const { image, path: inside = null, pullSecret = null, certificateAuthority = null, ...rest } = wish;
  const source = { kind: 'registry', image, path: inside, pullSecret, certificateAuthority } as const;
  return importImage(context, { ...usual(), ...rest, source });
}

export type UploadedWish = Partial<Omit<ImportRequest, 'source'>> & Pick<UploadSource, 'checksum'> & { file: string };

/** The same of a file that somebody uploads, or goes on uploading where that broke off. */
export async function importUploaded(
  context: ImportContext,
  { file, checksum, ...rest }: UploadedWish,
): Promise<ImageRecord> {
  const request = { ...usual(), ...rest, source: { kind: 'upload', objectId: '1', checksum } } as const;
  const kept = await keptUpload(context.pool, request);
  if (!kept?.complete && context.pool.images.size === 0) {
    const fromBytes = kept?.offsetBytes ?? 0;
    const part = { fromBytes, totalBytes: statSync(file).size, checksum: null, signal: request.signal };
    await receiveUpload(context, request, createReadStream(file, { start: fromBytes }), {
      ...part,
      onProgress: () => {},
    });
  }
  return importImage(context, request);
}

function usual() {
  const signal = AbortSignal.timeout(60_000);
  return { name: 'golden', format: 'qcow2', sizeBytes: null, clusterSizeBytes: null, signal } as const;
}

/** A disk image with a pattern of 0x41 at 1 MiB, of 16 MiB. @returns its bytes */
export function makeImage(directory: string, format: string, options: readonly string[] = []): Buffer {
  const file = path.join(directory, `made.${format}`);
  execFileSync('qemu-img', ['create', '-q', '-f', format, ...options, file, '16M']);
  execFileSync('qemu-io', ['-f', format, '-c', 'write -P 0x41 1M 3M', file]);
  const bytes = readFileSync(file);
  execFileSync('rm', [file]);
  return bytes;
}
