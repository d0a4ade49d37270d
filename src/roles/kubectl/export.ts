import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import type { DiskImage } from '../../api/objects.ts';
import type { ExportTask } from '../../config/kubectl.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import { formatBytes } from '../../lib/bytes.ts';
import { systemClock as clock } from '../../lib/clock.ts';
import { errnoOf, isLaminaError, LaminaError, messageOf } from '../../lib/errors.ts';
import { blocksOf } from '../../transfer/import/blocks.ts';
import { persist } from '../../transfer/persist.ts';
import { pathOf } from '../../transfer/users/user-request.ts';
import { writeParts } from '../../transfer/layers/written-parts.ts';
import type { NodeExchange } from './node-exchange.ts';

type Say = (text: string) => void;

/** Where what comes is written, in order. */
interface Target {
  write: (data: Buffer, offset: number) => Promise<void>;
  finish: (sizeBytes: number) => Promise<void>;
  discard: () => Promise<void>;
}

export interface ExportPlace {
  namespace: string;
  name: string;
  /** Where its node is told, of a DiskImage. */
  images: ResourceClient<DiskImage>;
}

/** Writes a disk to a file; goes on where the connection breaks. @returns the exit code */
export async function exportDisk(
  exchange: NodeExchange,
  { resource, format, output }: ExportTask,
  { namespace, name, images }: ExportPlace,
  say: Say,
): Promise<number> {
  const nodeName = resource === 'diskimages' ? await nodeOf(images, { namespace, name }) : undefined;
  const path = pathOf({ action: 'export', resource, namespace, name, format });
  const target = output === '-' ? standardOutput() : await fileAt(output);
  const download = new Download(exchange, { path, nodeName }, target);
  try {
    const signal = new AbortController().signal;
    const passes = (error: unknown) => isLaminaError(error, 'peer-unavailable') && download.offsetBytes > 0;
    await persist({ clock, signal, passes, offsetBytes: () => download.offsetBytes }, () => download.goOn());
    await target.finish(download.offsetBytes);
  } catch (error) {
    await target.discard();
    throw error;
  }
  say(`${output === '-' ? 'standard output' : output}: ${formatBytes(download.offsetBytes)}`);
  return 0;
}

class Download {
  readonly #exchange: NodeExchange;
  readonly #from: { path: string; nodeName: string | undefined };
  readonly #target: Target;
  #etag: string | undefined;
  offsetBytes = 0;

  constructor(exchange: NodeExchange, from: { path: string; nodeName: string | undefined }, target: Target) {
    this.#exchange = exchange;
    this.#from = from;
    this.#target = target;
  }

  /** To the end, or as far as one connection goes. @throws LaminaError `peer-unavailable` where that breaks */
  async goOn(): Promise<void> {
    const { path, nodeName } = this.#from;
    // What has changed since is not to be added to what has come: 412 then.
    const again = this.#etag === undefined ? {} : { 'if-match': this.#etag, range: `bytes=${this.offsetBytes}-` };
    const answer = await this.#exchange.ask({ method: 'GET', path, headers: again }, nodeName);
    this.#etag = answer.headers.etag;
    try {
      for await (const block of blocksOf(answer as AsyncIterable<Buffer>, new AbortController().signal)) {
        await this.#target.write(block, this.offsetBytes);
        this.offsetBytes += block.length;
      }
    } catch (error) {
      if (errnoOf(error) !== 'ECONNRESET') throw error;
      throw new LaminaError('peer-unavailable', `the connection broke: ${messageOf(error)}`, { cause: error });
    } finally {
      answer.destroy();
    }
  }
}

async function nodeOf(images: ResourceClient<DiskImage>, ref: { namespace: string; name: string }) {
  const image = await images.get(ref);
  if (image) return image.spec.nodeName;
  throw new LaminaError('image-not-found', `there is no DiskImage ${ref.namespace}/${ref.name}`);
}

/** A file of that name is there when it is whole, with holes for what reads as zeroes. */
async function fileAt(output: string): Promise<Target> {
  const partial = `${output}.part`;
  const existing = await open(output, 'r').catch(() => null);
  await existing?.close();
  if (existing) throw new LaminaError('invalid-parameter', `${output} is there already: name another file`);
  const handle: FileHandle = await open(partial, 'w');
  return {
    write: (data, offset) => writeParts(handle, data, offset),
    finish: async (sizeBytes) => {
      await handle.truncate(sizeBytes);
      await handle.close();
      await rename(partial, output);
    },
    discard: async () => {
      await handle.close();
      await rm(partial, { force: true });
    },
  };
}

function standardOutput(): Target {
  const write = (data: Buffer) =>
    new Promise<void>((resolve, reject) => {
      process.stdout.write(data, (error) => (error ? reject(error) : resolve()));
    });
  return { write, finish: async () => {}, discard: async () => {} };
}
