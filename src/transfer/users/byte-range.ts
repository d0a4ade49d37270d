/** Bytes from `start` up to, not including, `end`. */
export interface ByteRange {
  start: number;
  end: number;
}

/**
 * The one range that a `Range` header asks for of `sizeBytes`; null where it asks for none that we give, which means all:
 * several at once, other units, or nonsense (RFC 9110, 14.2).
 */
export function parseRange(header: string | undefined, sizeBytes: number): ByteRange | 'unsatisfiable' | null {
  const [, first = '', last = ''] = /^bytes=([0-9]{0,15})-([0-9]{0,15})$/.exec(header ?? '') ?? [];
  if (first === '' && last === '') return null;
  if (first === '') {
    const start = Math.max(0, sizeBytes - Number(last));
    return start < sizeBytes ? { start, end: sizeBytes } : 'unsatisfiable';
  }
  const start = Number(first);
  const end = last === '' ? sizeBytes : Math.min(Number(last) + 1, sizeBytes);
  if (last !== '' && Number(last) < start) return null;
  return start < sizeBytes ? { start, end } : 'unsatisfiable';
}

/** What `Content-Range` says of the bytes that come with a request; undefined where it is nonsense. */
export function parseContentRange(header: string): (ByteRange & { totalBytes: number }) | undefined {
  const [, first, last, total] = /^bytes ([0-9]{1,15})-([0-9]{1,15})\/([0-9]{1,15})$/.exec(header) ?? [];
  const range = { start: Number(first), end: Number(last) + 1, totalBytes: Number(total) };
  return range.start < range.end && range.end <= range.totalBytes ? range : undefined;
}
