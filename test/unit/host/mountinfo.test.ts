import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { coveredDirectory, mountsAt, mountsOf, parseMountinfo } from '../../../src/host/mountinfo.ts';

const parse = (...lines: string[]) => parseMountinfo(Buffer.from(`${lines.join('\n')}\n`));

/** As fs/seq_file.c does for mountinfo: single bytes, in three octal digits. */
function escape(name: string): string {
  const bytes = [...Buffer.from(name)].map((byte) => {
    const character = String.fromCharCode(byte);
    return ' \t\n\\#'.includes(character) ? `\\${byte.toString(8).padStart(3, '0')}` : character;
  });
  return bytes.join('');
}

const latin1 = (...lines: string[]) => parseMountinfo(Buffer.from(`${lines.join('\n')}\n`, 'latin1'));

describe('mountinfo', () => {
  it('is read with any number of optional fields', () => {
    for (const optional of ['', 'shared:2 ', 'shared:2 master:1 propagate_from:3 unbindable ']) {
      const [mount] = parse(`36 35 98:0 /mnt1 /mnt2 rw,noatime ${optional}- ext3 /dev/root rw,errors=continue`);
      expect(mount).toEqual({
        id: 36,
        parentId: 35,
        device: '98:0',
        root: '/mnt1',
        mountPoint: '/mnt2',
        options: ['rw', 'noatime'],
        fsType: 'ext3',
        source: '/dev/root',
        superOptions: ['rw', 'errors=continue'],
      });
    }
  });

  it('is read with names that look like other fields, or are empty', () => {
    expect(parse('1 2 0:5 / /- rw - tmpfs - rw')[0]).toMatchObject({ mountPoint: '/-', source: '-', fsType: 'tmpfs' });
    expect(parse('1 2 0:5 / - rw shared:1 - fuse.x  rw')[0]).toMatchObject({
      mountPoint: '-',
      source: '',
      fsType: 'fuse.x',
    });
    expect(parse('1 2 0:5 / /a rw - tmpfs none rw,x=a b')[0]).toMatchObject({ superOptions: ['rw', 'x=a b'] });
  });

  it('gives every name back as it is, whatever characters it has', () => {
    const name = fc
      .string({ unit: 'binary', minLength: 1 })
      .filter((text) => !text.includes('\0') && text.isWellFormed());
    fc.assert(
      fc.property(name, name, name, (root, mountPoint, source) => {
        const line = `1 2 7:3 ${escape(root)} ${escape(mountPoint)} rw shared:1 - ext4 ${escape(source)} rw`;
        expect(latin1(line)[0]).toMatchObject({ root, mountPoint, source });
      }),
    );
  });

  it('gives names back that were made of spaces, escapes and unfinished escapes', () => {
    const piece = fc.constantFrom(' ', '\n', '\t', '\\', '#', '\\040', '\\04', '-', ' - ', 'ü', '✓', '\r', 'a');
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1 }), (pieces) => {
        const mountPoint = `/${pieces.join('')}`;
        expect(latin1(`1 2 7:3 / ${escape(mountPoint)} rw - ext4 x rw`)[0]?.mountPoint).toBe(mountPoint);
      }),
    );
  });

  it('is refused where a line cannot be read', () => {
    for (const line of ['nonsense', '1 2 7:3 / /a rw ext4 /dev/loop3 rw', '1 2 7:3 / /a rw - ext4']) {
      expect(() => parse(line)).toThrow(line);
    }
  });
});

describe('mounts', () => {
  const mounts = parse(
    '1 0 8:1 / / rw - ext4 /dev/sda1 rw',
    '2 1 7:3 / /data rw - ext4 /dev/loop3 rw',
    '3 2 7:4 / /data rw - xfs /dev/loop4 rw',
    '4 1 7:3 /sub /other ro - ext4 /dev/loop3 rw',
    '5 1 0:40 / /b rw - btrfs /dev/no-such-device rw',
    '6 1 0:41 / /t rw - tmpfs tmpfs rw',
  );

  it('are found by path, the one that is seen last', () => {
    expect(mountsAt(mounts, '/data').map(({ id }) => id)).toEqual([2, 3]);
    expect(mountsAt(mounts, '/dat')).toEqual([]);
  });

  it('are found by device, bind mounts of parts too', async () => {
    expect((await mountsOf(mounts, '7:3')).map(({ id }) => id)).toEqual([2, 4]);
    expect(await mountsOf(mounts, '0:40')).toEqual([]);
  });

  it('are one where a directory above is seen at two places', () => {
    const seen = parse(
      '1 0 8:1 / / rw - ext4 /dev/sda1 rw',
      '2 1 8:1 /var/lib/kubelet /kubelet rw shared:5 - ext4 /dev/sda1 rw',
      '3 1 7:3 / /var/lib/kubelet/pods/x rw shared:6 - ext4 /dev/loop3 rw',
      '4 2 7:3 / /kubelet/pods/x rw shared:6 - ext4 /dev/loop3 rw',
      '5 1 7:3 / /var/lib/kubelet/pods/y rw shared:6 - ext4 /dev/loop3 rw',
    );
    const keys = seen.map((mount) => coveredDirectory(seen, mount));
    expect(keys[2]).toBe(keys[3]);
    expect(keys[2]).not.toBe(keys[4]);
  });
});
