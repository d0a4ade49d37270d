import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diskIdOf, newLayerId, transientSnapshotId } from '../../../src/store/ids.ts';
import { diskIdSchema } from '../../../src/store/records.ts';

describe('ids', () => {
  it('are plain names as they are', () => {
    expect(diskIdOf('pvc-7d3f8f5e-9f0c-4a6e-8a0e-6d1c2f3b4a5d')).toBe('pvc-7d3f8f5e-9f0c-4a6e-8a0e-6d1c2f3b4a5d');
  });

  it('are valid for every name, and never leave the directory', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1, maxLength: 200, unit: 'binary' }), (name) => {
        const id = diskIdOf(name);
        expect(diskIdSchema.safeParse(id).success).toBe(true);
        expect(id).not.toContain('/');
        expect(id).toBe(diskIdOf(name));
      }),
    );
  });

  it.each(['../x', '.', '..', 'A', 'a/b', 'a b', '', 'ä', 'a'.repeat(64), 'a-'])('hashes the odd name %j', (name) => {
    expect(diskIdOf(name)).toMatch(/^sha256-[0-9a-f]{48}$/);
  });

  it('cannot be taken by a name that looks like the id of another', () => {
    expect(diskIdOf(diskIdOf('Odd Name'))).not.toBe(diskIdOf('Odd Name'));
    expect(diskIdOf(transientSnapshotId(diskIdOf('a')))).not.toBe(transientSnapshotId(diskIdOf('a')));
  });

  it('of layers are short enough for a QEMU node name', () => {
    expect(newLayerId().length).toBeLessThanOrEqual(31);
  });
});
