import { describe, expect, it } from 'vitest';
import { deviceNumber } from '../../../src/host/block-device.ts';
import { fuseMountIn } from '../../../src/host/fuse-mount.ts';
import { canBeSameFile, parseLoopDevices } from '../../../src/host/loop.ts';
import { parseMountinfo } from '../../../src/host/mountinfo.ts';

describe('parseLoopDevices', () => {
  it('reads what util-linux 2.38 prints, with its blanks', () => {
    const json = '{"loopdevices": [{"name": "/dev/loop0", "back-ino": 9977966, "back-maj:min": "     254:0  "}]}';
    expect(parseLoopDevices(json)).toEqual([{ path: '/dev/loop0', backing: { inode: 9977966, device: '254:0' } }]);
  });

  it('reads a device whose FUSE daemon is dead', () => {
    const json = '{"loopdevices": [{"name": "/dev/loop7", "back-ino": null, "back-maj:min": null}]}';
    expect(parseLoopDevices(json)).toEqual([{ path: '/dev/loop7', backing: null }]);
  });

  it('reads numbers that are printed as text', () => {
    const json = '{"loopdevices": [{"name": "loop1", "back-ino": "1", "back-maj:min": "0:49"}]}';
    expect(parseLoopDevices(json)).toEqual([{ path: '/dev/loop1', backing: { inode: 1, device: '0:49' } }]);
  });
});

describe('fuseMountIn', () => {
  const mountsOf = (table: string) => parseMountinfo(Buffer.from(table));
  const line = (device: string, mountpoint: string, type: string) =>
    `42 27 ${device} / ${mountpoint} rw,nosuid shared:21 - ${type} /dev/fuse rw,user_id=0`;

  it('finds the device number of the mount', () => {
    const table = [line('254:0', '/', 'ext4'), line('0:49', '/run/a/export', 'fuse')].join('\n');
    expect(fuseMountIn(mountsOf(table), '/run/a/export')).toBe('0:49');
    expect(fuseMountIn(mountsOf(table), '/run/a')).toBeNull();
  });

  it('understands lines without optional fields and escaped names', () => {
    const table = '42 27 0:50 / /run/with\\040blank/export rw - fuse.qemu /dev/fuse rw';
    expect(fuseMountIn(mountsOf(table), '/run/with blank/export')).toBe('0:50');
  });

  it('takes the uppermost of several mounts, and nothing that is not FUSE', () => {
    const twice = [line('0:49', '/e', 'fuse'), line('0:51', '/e', 'fuse')].join('\n');
    expect(fuseMountIn(mountsOf(twice), '/e')).toBe('0:51');
    expect(
      fuseMountIn(mountsOf([line('0:49', '/e', 'fuse'), line('0:52', '/e', 'tmpfs')].join('\n')), '/e'),
    ).toBeNull();
  });
});

describe('deviceNumber', () => {
  it('takes a device number apart as the kernel packs it', () => {
    expect(deviceNumber(0x0802n)).toBe('8:2');
    expect(deviceNumber((1n << 20n) | 0xffn | (7n << 8n))).toBe('7:511');
  });
});

describe('canBeSameFile', () => {
  it.each([
    ['/pool/layers/l1/data.raw', '/pool/layers/l1/data.raw', true],
    ['/layers/l1/data.raw', '/pool/layers/l1/data.raw', true],
    ['/data.raw', '/pool/layers/l1/data.raw', true],
    ['/pool/layers/l1/data.raw (deleted)', '/pool/layers/l1/data.raw', true],
    ['/pool/layers/l2/data.raw', '/pool/layers/l1/data.raw', false],
    ['/', '/pool/layers/l1/data.raw', false],
    ['/run/daemons/1/export', '/pool/layers/l1/data.raw', false],
  ])('%s and %s: %s', (one, other, expected) => {
    expect(canBeSameFile(one, other)).toBe(expected);
    if (!one.endsWith(')')) expect(canBeSameFile(other, one)).toBe(expected);
  });
});
