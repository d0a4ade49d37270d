import { describe, expect, it } from 'vitest';
import { imageBlockdev } from '../../../src/qemu/blockdev.ts';
import { fuseExportArgs, graphArgs, monitorArgs, nbdExportArgs } from '../../../src/qemu/storage-daemon.ts';

const access = { direct: true, aio: 'native', discard: true } as const;
const head = { nodeName: 'l1', format: 'qcow2', path: '/pool/l1', readOnly: false, backing: 'l0' } as const;

describe('imageBlockdev', () => {
  it('names every driver and the backing node, so that nothing is probed or followed', () => {
    expect(imageBlockdev(head, access)).toEqual({
      driver: 'qcow2',
      'node-name': 'l1',
      'read-only': false,
      discard: 'unmap',
      backing: 'l0',
      file: {
        driver: 'file',
        'node-name': 'f-l1',
        filename: '/pool/l1',
        'read-only': false,
        discard: 'unmap',
        aio: 'native',
        cache: { direct: true, 'no-flush': false },
      },
    });
  });

  it('says that there is no backing rather than nothing', () => {
    expect(imageBlockdev({ ...head, backing: null }, access)).toHaveProperty('backing', null);
  });

  it('gives raw no backing, which the driver does not know', () => {
    expect(imageBlockdev({ ...head, format: 'raw', backing: null }, access)).not.toHaveProperty('backing');
  });

  it('ignores discards of a preallocated disk in the image and in the file', () => {
    const options = imageBlockdev(head, { ...access, discard: false });
    expect(options).toMatchObject({ discard: 'ignore', file: { discard: 'ignore' } });
  });

  it.each(['l'.repeat(30), '1abc', 'a,b', ''])('refuses the node name %j', (nodeName) => {
    expect(() => imageBlockdev({ ...head, nodeName }, access)).toThrow('cannot name a QEMU node');
  });
});

describe('arguments of the storage daemon', () => {
  it('put the export on the iothread', () => {
    const [object, iothread] = graphArgs([]);
    expect([object, iothread]).toEqual(['--object', 'iothread,id=io']);
    const parse = (args: string[]) => JSON.parse(args.at(-1) ?? '') as unknown;
    expect(parse(fuseExportArgs('l1', '/run/export'))).toMatchObject({
      type: 'fuse',
      'node-name': 'l1',
      mountpoint: '/run/export',
      writable: true,
      iothread: 'io',
      'fixed-iothread': true,
    });
    expect(parse(nbdExportArgs('l1', '/run/nbd.sock', 4))).toMatchObject({
      type: 'nbd',
      name: 'disk',
      iothread: 'io',
      'fixed-iothread': true,
    });
  });

  it('serve NBD on the unix socket', () => {
    const [, server] = nbdExportArgs('l1', '/run/nbd.sock', 4);
    expect(JSON.parse(server ?? '')).toEqual({ addr: { type: 'unix', path: '/run/nbd.sock' }, 'max-connections': 4 });
  });

  it('escape commas of a path in key=value options', () => {
    expect(monitorArgs('m', '/run/a,b/q.sock')[1]).toBe('socket,id=m,path=/run/a,,b/q.sock,server=on,wait=off');
  });
});
