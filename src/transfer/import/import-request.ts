import type { Clock } from '../../lib/clock.ts';
import { type ErrorCode, isLaminaError } from '../../lib/errors.ts';
import type { TokenBucket } from '../../lib/token-bucket.ts';
import type { Pool } from '../../store/pool.ts';
import type { Format } from '../../store/records.ts';
import type { SpaceGuard } from '../../store/space.ts';
import type { ImportStep } from '../layers/steps.ts';
import type { ImportGate } from './import-gate.ts';

/** What all imports into one pool share; `limit` and `gate` are shared by all pools of a node. */
export interface ImportContext {
  pool: Pool;
  space: SpaceGuard;
  /** Runs `work` while nothing else makes, imports or deletes that image: Images.lock of the engine. */
  lock: <T>(imageId: string, work: () => Promise<T>) => Promise<T>;
  /** Bytes per second of all imports together. */
  limit: TokenBucket;
  /** How many imports run at a time. */
  gate: ImportGate;
  clock: Clock;
  checkpoint: (step: ImportStep) => void;
  /** Where a server sends nothing for so long, the connection is given up, and another made. */
  stallMs: number;
  /** Whether a source may be what only this machine itself can reach, as in tests. */
  mayReachItself: boolean;
}

export interface HttpSource {
  kind: 'http';
  url: string;
  /** `sha256:HEX` or `sha512:HEX` of the bytes at the URL, compressed where they are; null: nobody said. */
  checksum: string | null;
  /** Sent to the origin of `url` only, and never without TLS where the URL has it. */
  headers: Readonly<Record<string, string>>;
  /** PEM, trusted instead of what all programs trust; null: that. */
  certificateAuthority: string | null;
}

/** A container image with a disk image in it, as KubeVirt's containerDisks are. */
export interface RegistrySource {
  kind: 'registry';
  /** A reference that begins with its registry; with `@sha256:DIGEST` at its end nothing else is taken. */
  image: string;
  /** Of the disk image in the container image; null: the one file in /disk. */
  path: string | null;
  /** What a Secret of the type kubernetes.io/dockerconfigjson holds, as read from JSON; null: nobody logs in. */
  pullSecret: unknown;
  /** As for http. */
  certificateAuthority: string | null;
}

/** A file that somebody has uploaded: receiveUpload has taken it, whole. */
export interface UploadSource {
  kind: 'upload';
  /** Of the object that it was uploaded for, so that nothing is taken that was uploaded for an earlier one. */
  objectId: string;
  /** As for http. */
  checksum: string | null;
}

export type ImportSource = HttpSource | RegistrySource | UploadSource;

/** What it is called in messages. */
export function sourceName(source: ImportSource): string {
  switch (source.kind) {
    case 'http':
      return source.url;
    case 'registry':
      return source.image;
    case 'upload':
      return 'the upload';
  }
}

export interface ImportRequest {
  /** Of the image, as Images.create takes it. */
  name: string;
  source: ImportSource;
  /** What the layer is to be. */
  format: Format;
  /** What the image is to look like at least, and the most that is accepted; null: what the source has. */
  sizeBytes: number | null;
  /** qcow2 that is converted only; null: the default. */
  clusterSizeBytes: number | null;
  signal: AbortSignal;
  onProgress?: (progress: ImportProgress) => void;
}

export interface ImportProgress {
  /** `waiting`: as many imports run as may. */
  stage: 'waiting' | 'downloading' | 'unpacking' | 'converting';
  doneBytes: number;
  /** Of this stage; null where nobody knows. */
  totalBytes: number | null;
}

/** What trying again does not change: the source or what is asked for has to be another one. */
const finalCodes: readonly ErrorCode[] = [
  'checksum-mismatch',
  'image-refused',
  'invalid-parameter',
  'size-out-of-range',
  'unsupported',
];

/**
 * Whether an import that failed so is not to be tried again. What passes: `source-unavailable` (soon), `pool-full` (when
 * there is room), `source-denied` (now and then), `tool-missing`, `timeout`, `import-failed`.
 */
export function isFinalImportFailure(error: unknown): boolean {
  return isLaminaError(error) && isFinalImportCode(error.code);
}

/** The same of its code. */
export function isFinalImportCode(code: ErrorCode): boolean {
  return finalCodes.includes(code);
}
