import type { Rule } from './rule.ts';

/** What a disk can have: from 1 MiB to what ext4 holds as one file. The store has the same bounds. */
export const minimumSizeBytes = 1024 ** 2;
export const maximumSizeBytes = 16 * 1024 ** 4 - 4096;

/**
 * Bytes in CEL, of a quantity that may be a number as well. As a float, because `asInteger` fails for `1.5Gi` and
 * `100Ti`; it is exact for whole bytes below 8 PiB.
 */
const bytesOf = (name: string) => `(type(${name}) == int ? double(${name}) : quantity(${name}).asApproximateFloat())`;

const isQuantity = '(type(self) == int || isQuantity(self))';

const hint = 'write a number of bytes as a quantity, such as 10Gi';

/** Rules for the field `size`. One that is no quantity breaks the first one only. */
export const sizeRules: readonly Rule[] = [
  { rule: isQuantity, message: `size is not a quantity: ${hint}.` },
  {
    rule: `!${isQuantity} || ${bytesOf('self')} >= ${minimumSizeBytes}.0 && ${bytesOf('self')} <= ${maximumSizeBytes}.0`,
    message: `size must be at least 1Mi and less than 16Ti: ${hint}.`,
  },
  {
    // Sizes are rounded to 4 KiB, so that one byte is no difference; a fraction of a quantity's may not be exact.
    rule: `!${isQuantity} || ${bytesOf('self')} + 1.0 >= ${bytesOf('oldSelf')}`,
    message:
      'size cannot shrink, as a disk only grows: leave it as it was, or declare a new DiskImage and copy the data.',
  },
];
