import type { Rule } from './rule.ts';

/** What a disk can have: from 1 MiB to what ext4 holds as one file. The store has the same bounds. */
export const minimumSizeBytes = 1024 ** 2;
export const maximumSizeBytes = 16 * 1024 ** 4 - 4096;

/**
 * Bytes in CEL, of a quantity that may be a number as well. As a float, because `asInteger` fails for `1.5Gi` and
 * `100Ti`; it is exact for whole bytes below 8 PiB.
 */
const bytesOf = (name: string) => `(type(${name}) == int ? double(${name}) : quantity(${name}).asApproximateFloat())`;

const isQuantity = (name: string) => `(type(${name}) == int || isQuantity(${name}))`;

const hint = 'write a number of bytes as a quantity, such as 10Gi';

/** Rules for the field `size`. One that is no quantity breaks the first one only. */
export const sizeRules: readonly Rule[] = [
  { rule: isQuantity('self'), message: `size is not a quantity: ${hint}.` },
  {
    rule: `!${isQuantity('self')} || ${bytesOf('self')} >= ${minimumSizeBytes}.0 && ${bytesOf('self')} <= ${maximumSizeBytes}.0`,
    message: `size must be at least 1Mi and less than 16Ti: ${hint}.`,
  },
];

const newSize = 'self.spec.size';
const oldSize = 'oldSelf.spec.size';

/**
 * For the whole object: a size may become smaller as long as nothing is to shrink for it. Before the disk is made, that
 * is always so; the node may be making the bigger one at this moment, which is more than is asked for then, and no harm.
 */
export const shrinkRule: Rule = {
  rule: [
    `!has(${newSize}) || !${isQuantity(newSize)}`,
    // Sizes are rounded to 4 KiB, so that one byte is no difference; a fraction of a quantity's may not be exact.
    `has(${oldSize}) && ${bytesOf(newSize)} + 1.0 >= ${bytesOf(oldSize)}`,
    '!has(self.status) || !has(self.status.diskId)',
    `has(self.status.virtualSize) && ${bytesOf(newSize)} + 1.0 >= quantity(self.status.virtualSize).asApproximateFloat()`,
  ].join(' || '),
  message:
    'size cannot be less than what the disk has, which status.virtualSize says, as a disk only grows: ask for that or more, or declare a new DiskImage and copy the data.',
  fieldPath: '.spec.size',
};

/** For the spec of a sealed DiskImage, whose size is as fixed as its content. */
export function sealedSizeRule(isSealed: string): Rule {
  const isSame = `!has(self.size) || !${isQuantity('self.size')} || ${bytesOf('self.size')} == ${bytesOf('oldSelf.size')}`;
  return {
    rule: `!${isSealed} || has(self.size) == has(oldSelf.size) && (${isSame})`,
    message:
      'size of a sealed DiskImage cannot be changed, as disks start from it: leave it as it was, and give the disks that start from it the size they need.',
    fieldPath: '.size',
  };
}
