import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../src/lib/bytes.ts';
import { newLayerId } from '../../src/store/ids.ts';
import { checkPool } from '../../src/store/check.ts';
import type { LayerDescription } from '../../src/transfer/layers/chain-description.ts';
import { removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { frameBytes, framedFile, LayerPeer } from '../fakes/layer-peer.ts';
import { fetchSnapshot, type TransferNode } from '../transfer-node.ts';
import { createDisk, TransferScene } from '../transfer-scene.ts';

describe('nothing that a peer sends is used unless it is what it must be', () => {
  let scene: TransferScene;
  let peer: LayerPeer;
  let target: TransferNode;
  beforeEach(async () => {
    scene = await TransferScene.create(temporaryDirectory());
    peer = await LayerPeer.start('source', await scene.credentials('source'));
    target = await scene.addNode('target');
  });
  afterEach(async () => {
    await peer.close();
    await scene.close();
    removeDirectory(scene.directory);
  });

  const fetched = () => fetchSnapshot(peer.peer, target, 's');

  async function expectRefused(code: string, what?: string | RegExp): Promise<void> {
    const message = what === undefined ? expect.any(String) : expect.stringMatching(what);
    await expect(fetched()).rejects.toMatchObject({ code, message });
    expect(target.pool.layers.size).toBe(target.pool.disks.size);
    expect(target.pool.snapshots.size).toBe(0);
    expect(await checkPool(target.directory, () => {})).toMatchObject({ problems: [], leftovers: [] });
  }

  function describeFile(file: Buffer, change: Partial<LayerDescription> = {}): LayerDescription {
    return {
      id: newLayerId(),
      parent: null,
      format: 'qcow2',
      virtualSizeBytes: MiB,
      fileSizeBytes: file.length,
      allocatedBytes: file.length,
      etag: 'ab',
      createdAt: new Date().toISOString(),
      ...change,
    };
  }

  /** A QCOW2 file that somebody made with these arguments of qemu-img create. */
  function qcow2(...args: string[]): Buffer {
    const file = path.join(scene.directory, 'made.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...args, file, '1M'], { cwd: scene.directory });
    return readFileSync(file);
  }

  function sends(file: Buffer, change: Partial<LayerDescription> = {}): void {
    const bytes = framedFile(file);
    peer.describes([describeFile(file, change)]);
    peer.layer = (response) => void response.end(bytes);
  }

  it('takes what is right', async () => {
    sends(qcow2());
    expect((await fetched()).sizeBytes).toBe(MiB);
  });

  describe('files', () => {
    const parent = 'l0123456789abcdef01234567';
    it.each([
      ['names a file of the node', () => qcow2('-u', '-b', '/etc/shadow', '-F', 'raw'), /not|backing/],
      [
        'names a layer that it has not as its parent',
        () => qcow2('-u', '-b', `../${parent}/data.raw`, '-F', 'raw'),
        /backing/,
      ],
      ['names a device', () => qcow2('-u', '-b', 'nbd:unix:/run/x', '-F', 'raw'), /backing/],
      ['keeps its data in another file', () => qcow2('-o', `data_file=${scene.directory}/outside`), /data file/],
      ['is no QCOW2 file', () => Buffer.alloc(64 * KiB, 1), /header/],
      ['is too short for a header', () => Buffer.alloc(10, 1), /header/],
    ])('refuses one that %s', async (_, file, what) => {
      sends(file());
      await expectRefused('peer-invalid', what);
    });

    it('refuses one whose features or header are not known', async () => {
      const good = qcow2();
      for (const change of [
        (file: Buffer) => file.writeUInt32BE(7, 4),
        (file: Buffer) => file.writeBigUInt64BE(1n << 40n, 72),
        (file: Buffer) => file.writeBigUInt64BE(2n, 72),
        (file: Buffer) => file.writeUInt32BE(1, 32),
      ]) {
        const file = Buffer.from(good);
        change(file);
        sends(file);
        await expectRefused('peer-invalid');
      }
    });

    it('refuses one of another size than was said', async () => {
      sends(qcow2(), { virtualSizeBytes: 2 * MiB });
      await expectRefused('peer-invalid', 'size');
    });

    it('refuses a raw one of another size', async () => {
      sends(Buffer.alloc(MiB, 1), { format: 'raw', virtualSizeBytes: 2 * MiB });
      await expectRefused('peer-invalid');
    });
  });

  describe('descriptions', () => {
    it.each([
      ['is not JSON', 'hello'],
      ['is something else', '{"kind":"Status"}'],
      ['does not end', `"${'x'.repeat(5 * MiB)}"`],
    ])('refuses what %s', async (_, text) => {
      peer.describe = (response) => void response.end(text);
      await expectRefused('peer-invalid');
    });

    it('refuses that of something else than was asked for', async () => {
      peer.describes([describeFile(qcow2())], { id: 't' });
      await expectRefused('peer-invalid', 'not snapshot s');
    });

    it('refuses a chain on a layer that a disk of this node writes to, or that is another one here', async () => {
      const { head } = await createDisk(target, 'mine', MiB);
      const { virtualSizeBytes } = target.pool.layer(head);
      const file = qcow2('-u', '-b', `../${head}/data.qcow2`, '-F', 'qcow2');
      const lower = describeFile(file, { id: head, virtualSizeBytes });
      peer.describes([describeFile(file, { parent: head }), lower]);
      await expectRefused('peer-invalid', 'another one here');
      await target.disks.createSnapshot({ name: 'mine', diskId: 'mine' });
      peer.describes([describeFile(file, { parent: head }), { ...lower, virtualSizeBytes: 2 * MiB }]);
      await expect(fetched()).rejects.toMatchObject({ code: 'peer-invalid' });
    });

    it('does not take a failure of the peer for one of this node', async () => {
      peer.describe = (response) => void response.writeHead(507).end('{"code":"pool-full","message":"full"}');
      await expectRefused('peer-unavailable', 'pool-full');
      peer.describe = (response) => void response.writeHead(302, { location: 'https://example.org/' }).end();
      await expectRefused('peer-unavailable', '302');
    });
  });

  describe('streams', () => {
    const incoming = () => readdirSync(path.join(target.directory, 'incoming'));

    it('refuses a wrong digest', async () => {
      const file = qcow2();
      const bytes = framedFile(file);
      bytes[100] = (bytes[100] ?? 0) ^ 1;
      peer.describes([describeFile(file)]);
      peer.layer = (response) => void response.end(bytes);
      await expectRefused('peer-invalid', 'SHA-256');
      expect(incoming()).toEqual([]);
    });

    it('refuses data beyond the size that was said, and an end elsewhere', async () => {
      const file = qcow2();
      sends(file, { fileSizeBytes: file.length - 512 });
      await expectRefused('peer-invalid');
      sends(file, { fileSizeBytes: file.length + 512 });
      await expectRefused('peer-invalid', 'an end at');
      expect(incoming()).toEqual([]);
    });

    it('refuses an answer without end in its head', async () => {
      const file = qcow2();
      peer.describes([describeFile(file)]);
      peer.layer = ({ socket }) => void socket?.end(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(MiB)}`);
      await expectRefused('peer-invalid', 'head');
    });

    it.each([
      ['breaks off every time', (bytes: Buffer) => bytes.subarray(0, 1000)],
      ['forgets the end', (bytes: Buffer) => bytes.subarray(0, bytes.length - 48)],
      ['sends nothing', () => Buffer.alloc(0)],
    ])('gives up after some attempts where it %s', async (_, cut) => {
      const file = qcow2();
      const bytes = cut(framedFile(file));
      peer.describes([describeFile(file)]);
      peer.layer = (response, { url }) => void response.end(url?.endsWith('from=0') ? bytes : '');
      await expectRefused('peer-unavailable', 'closed early');
      expect(peer.asked.length).toBeGreaterThan(4);
      expect(peer.asked.length).toBeLessThan(12);
    });

    it('gives up where nothing comes any more, and goes on where it was when something does', async () => {
      const file = Buffer.alloc(MiB, 1);
      const bytes = framedFile(file);
      let attempts = 0;
      peer.describes([describeFile(file, { format: 'raw' })]);
      peer.layer = (response, { url }) => {
        attempts++;
        if (attempts === 1) response.write(bytes.subarray(0, 600 * KiB));
        else if (attempts === 2) response.end(bytes.subarray(2 * (256 * KiB + 48)));
        expect(url).toContain(`from=${attempts === 1 ? 0 : 512 * KiB}`);
      };
      await scene.removeNode(target);
      const stallMs = 2000;
      target = await scene.addNode('target', { stallMs });
      const start = performance.now();
      const { layer } = await fetched();
      expect(performance.now() - start).toBeGreaterThan(stallMs);
      expect(readFileSync(target.pool.chainLayer(layer).path).equals(file)).toBe(true);
    });

    it('gives up where there is nobody', async () => {
      const { address } = peer.peer;
      peer.describes([describeFile(qcow2())]);
      peer.layer = (response) => void response.end();
      await peer.close();
      await expect(fetched()).rejects.toMatchObject({
        code: 'peer-unavailable',
        message: expect.stringContaining(address),
      });
      peer = await LayerPeer.start('source', await scene.credentials('source'));
    });

    it('gives up where a peer says again and again that the layer has changed', async () => {
      peer.describes([describeFile(qcow2())]);
      peer.layer = (response) => void response.writeHead(412).end('{"code":"layer-changed","message":"changed"}');
      await expectRefused('peer-unavailable', 'change all the time');
    }, 60_000);

    it('takes frames that are all small, and skips what is zero', async () => {
      const file = Buffer.alloc(MiB);
      for (let at = 0; at < MiB; at += 16 * KiB) file[at] = 1;
      const frames: Buffer[] = [];
      for (let at = 0; at < MiB; at += 4 * KiB) frames.push(frameBytes('data', at, file.subarray(at, at + 4 * KiB)));
      const bytes = Buffer.concat([...frames, frameBytes('end', MiB, Buffer.alloc(0))]);
      peer.describes([describeFile(file, { format: 'raw' })]);
      peer.layer = (response) => void response.end(bytes);
      const { layer } = await fetched();
      expect(readFileSync(target.pool.chainLayer(layer).path).equals(file)).toBe(true);
    });
  });
});
