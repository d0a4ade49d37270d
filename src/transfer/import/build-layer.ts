import { chmod, chown, type FileHandle, open, rename, stat } from 'node:fs/promises';
import { pause } from '../../lib/clock.ts';
import { createImage as createBlank, growImage } from '../../qemu/qemu-img.ts';
import { convertUntrusted, type UntrustedImage, untrustedUserId } from '../../qemu/untrusted-image.ts';
import { commitBytes } from '../layers/incoming-layer.ts';
import type { Accepted } from './accept-image.ts';
import { type ImportContext, type ImportRequest, sourceName } from './import-request.ts';

/** How often it is looked how far a conversion is, and whether the pool has room for the rest. */
const watchMs = 1000;

/** Makes the layer's file of what was downloaded to `source` and accepted: the file itself where that will do. */
export async function buildLayer(
  context: ImportContext,
  request: ImportRequest,
  { source, accepted, target }: { source: string; accepted: Accepted; target: { file: string; sizeBytes: number } },
): Promise<void> {
  const { format } = request;
  const { file, sizeBytes } = target;
  if (accepted.asItIs && accepted.format === format) {
    await rename(source, file);
    await chmod(file, 0o600);
    if (sizeBytes !== accepted.sizeBytes) await growImage({ file, format, sizeBytes, preallocation: 'off' });
    return;
  }
  const { clusterSizeBytes } = request;
  await createBlank({ file, format, sizeBytes, preallocation: 'off', clusterSizeBytes });
  await chown(file, untrustedUserId, untrustedUserId);
  const handles: FileHandle[] = [];
  try {
    handles.push(await open(source, 'r'), await open(file, 'r+'));
    const [from, to] = handles.map(({ fd }) => fd) as [number, number];
    await watched(context, request, file, async (signal) => {
      const image: UntrustedImage = { ...accepted, descriptor: from, name: sourceName(request.source), signal };
      await convertUntrusted(image, { descriptor: to, format });
    });
  } finally {
    for (const handle of handles) await handle.close();
  }
  await chown(file, 0, 0);
}

/** Ends `work` when the pool that it fills becomes full. */
async function watched(
  { clock, space }: ImportContext,
  { signal, onProgress }: ImportRequest,
  file: string,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const full = new AbortController();
  const ended = new AbortController();
  const watch = async () => {
    while (!ended.signal.aborted) {
      onProgress?.({ stage: 'converting', doneBytes: (await stat(file)).blocks * 512, totalBytes: null });
      await space.assertRoom(commitBytes);
      await pause(clock, watchMs, ended.signal);
    }
  };
  const watching = watch().catch((error: unknown) => full.abort(error));
  try {
    await work(AbortSignal.any([signal, full.signal]));
  } finally {
    ended.abort();
    await watching;
  }
}
