import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { failureCode } from '../../api/conditions.ts';
import { groupVersion } from '../../api/names.ts';
import type { DiskImage } from '../../api/objects.ts';
import { type Condition, findCondition } from '../../kube/conditions.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import { formatBytes } from '../../lib/bytes.ts';
import { pause, systemClock as clock } from '../../lib/clock.ts';
import { ifErrno, isLaminaError, LaminaError } from '../../lib/errors.ts';
import { pollUntil } from '../../lib/poll.ts';
import { persist } from '../../transfer/persist.ts';
import { pathOf } from '../../transfer/users/user-request.ts';
import type { NodeExchange } from './node-exchange.ts';

type Say = (text: string) => void;
type Images = ResourceClient<DiskImage>;

export interface UploadPlace {
  file: string;
  namespace: string;
  name: string;
}

/** Until a DiskImage is placed and waits for its file; not how long the file takes. */
const readyTimeoutMs = 120_000;
const lookMs = 1000;

/** Sends a file to the node of a DiskImage, which is declared where it is not there. @returns the exit code */
export async function uploadDisk(
  exchange: NodeExchange,
  images: Images,
  { file, namespace, name }: UploadPlace,
  say: Say,
): Promise<number> {
  const info = await stat(file).catch(ifErrno('ENOENT', null));
  if (!info?.isFile()) throw new LaminaError('invalid-parameter', `${file} is no file`);
  const { nodeName, refusal } = await untilAwaited(images, { namespace, name }, say);
  const path = pathOf({ action: 'upload', resource: 'diskimages', namespace, name });
  const upload = new Upload(
    exchange,
    { file, sizeBytes: info.size, digest: await digestOf(file), path, nodeName },
    say,
  );
  const passes = (error: unknown) => isLaminaError(error, 'peer-unavailable') && upload.hasBegun;
  const persistence = { clock, signal: new AbortController().signal, passes, offsetBytes: () => upload.offsetBytes };
  try {
    await persist(persistence, () => upload.goOn());
  } catch (error) {
    // What was there may have been of another file; it is not there any more.
    if (!isLaminaError(error, 'checksum-mismatch') || upload.offsetBytes === 0) throw error;
    await persist(persistence, () => upload.goOn());
  }
  return untilMade(images, { namespace, name, refusal }, say);
}

/** Declares it unless it is there, and waits until its node takes the file. @returns the node, and why an earlier upload was refused */
async function untilAwaited(
  images: Images,
  ref: { namespace: string; name: string },
  say: Say,
): Promise<{ nodeName: string; refusal: string | null }> {
  const found = await images.get(ref);
  if (!found) {
    const spec = { source: { type: 'upload', upload: {} } };
    await images.create({ apiVersion: groupVersion, kind: 'DiskImage', metadata: ref, spec } as never);
    say(`Declared the DiskImage ${ref.namespace}/${ref.name}.`);
  } else if (found.spec.source.type !== 'upload') {
    throw new LaminaError(
      'name-taken',
      `the DiskImage ${ref.name} is there, with source.type ${found.spec.source.type}`,
    );
  }
  let image = found;
  let ready: Condition | undefined;
  const isAwaited = async () => {
    image = await images.get(ref);
    ready = findCondition(image?.status.conditions ?? [], 'Ready');
    if (ready?.status === 'True') throw new LaminaError('name-taken', `the DiskImage ${ref.name} is made already`);
    const isOpen = ready !== undefined && (ready.reason === 'WaitingForUpload' || isRefusal(ready));
    return isOpen && image?.spec.nodeName !== undefined;
  };
  const inTime = await pollUntil(isAwaited, { timeoutMs: readyTimeoutMs, intervalMs: lookMs });
  const nodeName = image?.spec.nodeName;
  if (inTime && nodeName !== undefined) return { nodeName, refusal: ready && isRefusal(ready) ? ready.message : null };
  const words = ready?.message ?? 'nobody has said anything of it yet';
  throw new LaminaError('timeout', `the DiskImage ${ref.name} does not wait for its file: ${words}`);
}

function isRefusal({ reason }: Condition): boolean {
  return failureCode(reason) !== undefined;
}

interface UploadedFile {
  file: string;
  sizeBytes: number;
  digest: string;
  path: string;
  nodeName: string;
}

class Upload {
  readonly #exchange: NodeExchange;
  readonly #what: UploadedFile;
  readonly #say: Say;
  hasBegun = false;
  /** From where it goes on. */
  offsetBytes = 0;

  constructor(exchange: NodeExchange, what: UploadedFile, say: Say) {
    this.#exchange = exchange;
    this.#what = what;
    this.#say = say;
  }

  /** Sends what the node does not have. @throws LaminaError `peer-unavailable` where the connection breaks */
  async goOn(): Promise<void> {
    const { file, sizeBytes, digest, path, nodeName } = this.#what;
    const { headers: known } = await read(await this.#exchange.ask({ method: 'HEAD', path }, nodeName));
    const kept = Number(known['upload-offset'] ?? 0);
    this.offsetBytes = kept < sizeBytes ? kept : 0;
    this.hasBegun = true;
    const start = this.offsetBytes;
    this.#say(`Sending ${formatBytes(sizeBytes - start)} of ${file} to node ${nodeName}.`);
    const range = start > 0 ? { 'content-range': `bytes ${start}-${sizeBytes - 1}/${sizeBytes}` } : {};
    const headers = { 'content-length': String(sizeBytes - start), 'repr-digest': `sha-256=:${digest}:`, ...range };
    const body = createReadStream(file, { start });
    await read(await this.#exchange.ask({ method: 'PUT', path, headers, body }, nodeName));
  }
}

/** In base64. */
async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer);
  return hash.digest('base64');
}

async function read<T extends AsyncIterable<unknown>>(answer: T): Promise<T> {
  for await (const _ of answer);
  return answer;
}

/** For so long the refusal of an earlier upload may still be what is said. */
const staleMs = 15_000;

async function untilMade(
  images: Images,
  { refusal, ...ref }: { namespace: string; name: string; refusal: string | null },
  say: Say,
): Promise<number> {
  say('All of it has come; waiting until the disk image is made.');
  const staleUntil = clock.elapsedMs() + staleMs;
  for (;;) {
    const ready = findCondition((await images.get(ref))?.status.conditions ?? [], 'Ready');
    const isStale = ready?.message === refusal && clock.elapsedMs() < staleUntil;
    if (!ready || ready.status === 'True' || (isRefusal(ready) && !isStale)) {
      say(ready?.message ?? `The DiskImage ${ref.name} is gone.`);
      return ready?.status === 'True' ? 0 : 4;
    }
    await pause(clock, lookMs, new AbortController().signal);
  }
}
