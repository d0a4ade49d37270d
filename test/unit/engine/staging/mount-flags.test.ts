import { describe, expect, it } from 'vitest';
import { couldBeMountedWith, requireMountFlags } from '../../../../src/engine/staging/mount-flags.ts';

describe('mount flags', () => {
  it('pass where each is one option of a file system', () => {
    const context = 'context="system_u:object_r:container_file_t:s0:c1,c2"';
    expect(() =>
      requireMountFlags(['noatime', 'commit=30', 'logbsize=256k', 'data=ordered', 'compress=zstd:3', context]),
    ).not.toThrow();
    expect(() => requireMountFlags([])).not.toThrow();
  });

  it.each([
    'a,b',
    'a b',
    '',
    'a\nb',
    'a\\040b',
    '"a"',
    '-o',
    'context="a",exec',
    'bind',
    'remount',
    'subvolid=5',
    'loop=/dev/loop1',
    'x-initrd.mount',
    'X-mount.mkdir',
  ])('are refused by name: %j', (flag) => {
    expect(() => requireMountFlags(['noatime', flag])).toThrow(JSON.stringify(flag));
  });

  it('are compared with a mount as far as the kernel shows them', () => {
    expect(couldBeMountedWith([], ['rw', 'relatime'])).toBe(true);
    expect(couldBeMountedWith(['noexec', 'commit=5'], ['rw', 'noexec', 'relatime'])).toBe(true);
    expect(couldBeMountedWith(['ro'], ['rw'])).toBe(false);
    expect(couldBeMountedWith([], ['ro'])).toBe(false);
    expect(couldBeMountedWith(['noatime', 'atime'], ['rw', 'relatime'])).toBe(true);
    expect(couldBeMountedWith(['nosuid'], ['rw', 'noexec', 'nosuid'])).toBe(false);
  });
});
