import { run } from '../lib/exec.ts';

const timeoutMs = 60_000;

/** Writes what a guest would read of `image` to `file`, as raw bytes. */
export async function convertToRaw(image: { path: string; format: 'qcow2' | 'raw' }, file: string): Promise<void> {
  await run('qemu-img', ['convert', '-f', image.format, '-O', 'raw', image.path, file], { timeoutMs });
}
