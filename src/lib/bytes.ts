export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;

/** `value` rounded up to the next multiple of `unit`; both whole numbers of bytes. */
export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Bytes for people: `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const text = Number.isInteger(value) ? String(value) : value.toFixed(1);
  return `${text} ${units[unit]}`;
}

const suffixes: Record<string, number> = { '': 1, k: KiB, Ki: KiB, M: MiB, Mi: MiB, G: GiB, Gi: GiB, T: TiB, Ti: TiB };

/** Reads `65536`, `64k`, `64Ki`, `2M`, `1Gi`: powers of 1024 as in qemu-img. Undefined where it is not such a size. */
export function parseBytes(text: string): number | undefined {
  const match = /^([0-9]+)([A-Za-z]{0,2})$/.exec(text);
  const factor = suffixes[match?.[2] ?? ''];
  if (!match || factor === undefined) return undefined;
  const value = Number(match[1]) * factor;
  return Number.isSafeInteger(value) ? value : undefined;
}
