import type { FileHandle } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { KiB } from '../../lib/bytes.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { TokenBucket } from '../../lib/token-bucket.ts';
import { dataExtents } from '../../qemu/data-extents.ts';
import { type Frame, frameDigest, maxDataBytes, newFrame, newFramePool } from './layer-frames.ts';

/** A hole shorter than this costs more than to send its zeroes, which the receiver leaves out again. */
const leastHoleBytes = 64 * KiB;
const leastReadBytes = 64 * KiB;

/** What is sent of an open file, for `from` to go on where an earlier transfer broke off. */
export interface Sending {
  handle: FileHandle;
  sizeBytes: number;
  from: number;
  limit: TokenBucket;
  signal: AbortSignal;
  onBytes: (bytes: number) => void;
}

/**
 * Writes the frames of layer-frames.ts to `target` and ends it: each is read while the one before it is sent, and none
 * sooner than the limit allows. Rejects where `target` or `signal` ends it before.
 */
export async function sendLayer(sending: Sending, target: Writable): Promise<void> {
  const pool = newFramePool();
  let sent: Promise<void> = Promise.resolve();
  for await (const frame of frames(sending, pool)) {
    await sent;
    sent = send(frame, target, sending.signal).then(() => pool.give(frame.body));
    // Awaited with the next frame; by then it may have been rejected for long.
    sent.catch(() => {});
  }
  await sent;
  target.end();
}

async function* frames(sending: Sending, pool: ReturnType<typeof newFramePool>): AsyncGenerator<Frame> {
  const { handle, sizeBytes, from, limit, signal, onBytes } = sending;
  // By the descriptor, since the file may have lost its name.
  const file = `/proc/${process.pid}/fd/${handle.fd}`;
  for await (const extent of dataExtents(file, { fromBytes: from, leastHoleBytes, signal })) {
    // qemu-img counts in sectors, beyond the end of a file that has no whole number of them.
    const end = Math.min(extent.start + extent.length, sizeBytes);
    for (let offset = extent.start; offset < end; ) {
      const length = Math.min(end - offset, readBytes(limit));
      await limit.take(length, signal);
      const frame = newFrame(pool, 'data', offset, length);
      await readFully(handle, frame);
      yield withDigest(frame);
      onBytes(length);
      offset += length;
    }
  }
  yield withDigest(newFrame(pool, 'end', sizeBytes, 0));
}

/** At a low limit less at once, so that the connection is never silent for long. */
function readBytes({ perSecond }: TokenBucket): number {
  return Math.max(leastReadBytes, Math.min(maxDataBytes, Math.floor(perSecond / 8)));
}

function withDigest(frame: Frame): Frame {
  return { ...frame, digest: frameDigest(frame) };
}

async function readFully(handle: FileHandle, { data, offset }: Frame): Promise<void> {
  for (let done = 0; done < data.length; ) {
    const { bytesRead } = await handle.read(data, done, data.length - done, offset + done);
    if (bytesRead === 0)
      throw new LaminaError('layer-corrupt', `a layer ends at byte ${offset + done}: it was cut off`);
    done += bytesRead;
  }
}

/** Resolves when the frame's memory is free again. */
function send({ digest, body }: Frame, target: Writable, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const abort = () => reject(signal.reason as Error);
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  target.cork();
  target.write(digest);
  target.write(body, (error) => (error ? reject(error) : resolve()));
  target.uncork();
  return promise.finally(() => signal.removeEventListener('abort', abort));
}
