import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Checkpoint } from '../src/lib/checkpoint.ts';
import { systemClock } from '../src/lib/clock.ts';
import { TokenBucket } from '../src/lib/token-bucket.ts';
import type { StoreStep } from '../src/store/steps.ts';
import type { ImageRecord } from '../src/store/records.ts';
import { ImportGate } from '../src/transfer/import/import-gate.ts';
import { importImage } from '../src/transfer/import/import-image.ts';
import type { HttpSource, ImportContext, ImportRequest } from '../src/transfer/import/import-request.ts';
import type { ImportStep } from '../src/transfer/steps.ts';
import type { DetachedPool } from './detached-pool.ts';

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
    stallMs: 1000,
  };
}

export type Wish = Partial<Omit<ImportRequest, 'source'>> & Partial<HttpSource> & { url: string };

export async function importFrom(context: ImportContext, wish: Wish): Promise<ImageRecord> {
  const { url, checksum = null, headers = {}, certificateAuthority = null, ...rest } = wish;
  return importImage(context, {
    name: 'golden',
    format: 'qcow2',
    sizeBytes: null,
    clusterSizeBytes: null,
    signal: AbortSignal.timeout(60_000),
    ...rest,
    source: { kind: 'http', url, checksum, headers, certificateAuthority },
  });
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
