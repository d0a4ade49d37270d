/** Every Node has it; its type comes with browsers' only. */
declare const WebAssembly: { Memory: new (size: { initial: number }) => { buffer: ArrayBuffer } };

const pageBytes = 65_536;

/**
 * Zeroed memory for O_DIRECT, which wants aligned addresses. Node's own buffers have any; WebAssembly memory begins at
 * a page of the machine.
 */
export function alignedBuffer(sizeBytes: number): Buffer {
  const memory = new WebAssembly.Memory({ initial: Math.ceil(sizeBytes / pageBytes) });
  return Buffer.from(memory.buffer, 0, sizeBytes);
}
