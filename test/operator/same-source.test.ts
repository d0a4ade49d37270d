import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { machineAddress } from '../machine-address.ts';
import { stories } from './stories.ts';

stories('two DiskImages of the same source', (scene) => {
  let directory: string;
  let server: ImageServer;
  let raw: string;
  let source: object;

  beforeAll(async () => {
    directory = mkdtempSync(path.join(tmpdir(), 'lamina-same-source-'));
    raw = path.join(directory, 'raw');
    writeFileSync(raw, randomBytes(24 * MiB));
    const image = path.join(directory, 'image.qcow2');
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
    const bytes = readFileSync(image);
    server = await ImageServer.start(machineAddress);
    const url = server.put('/image.qcow2', bytes);
    const checksum = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    source = { type: 'http', http: { url, checksum } };
  });
  afterAll(async () => {
    await server.close();
    rmSync(directory, { recursive: true });
  });

  /** Whether the content of a DiskImage of worker-a is that of the source. */
  function isWhole(diskId: string): boolean {
    const pool = scene().cluster.workerA.pool();
    const record = JSON.parse(readFileSync(path.join(pool, 'images', `${diskId}.json`), 'utf8')) as { layer: string };
    const layer = path.join(pool, 'layers', record.layer);
    const file = path.join(layer, readdirSync(layer).find((name) => name.startsWith('data.')) ?? '');
    execFileSync('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', file, raw]);
    return true;
  }

  it('that are declared at once on one node are both imported, and each lives without the other', async (context) => {
    context.skip(machineAddress === undefined, 'this machine has no address but the loopback one');
    const { user } = scene();
    // Both are on their way before either can end.
    const held: ServerResponse[] = [];
    server.answer = (_, response) => {
      if (held.length >= 2) return false;
      if (held.push(response) === 2) for (const each of held) each.writeHead(503).end();
      return true;
    };
    const names = ['one', 'two'];
    await Promise.all(names.map((name) => user.declareDisk(name, { nodeName: 'worker-a', source })));
    const images = await Promise.all(names.map((name) => user.diskWith(name, 'Ready')));
    const [one = '', two = ''] = images.map(({ status }) => status.diskId);
    expect(one).not.toBe(two);
    expect([isWhole(one), isWhole(two)]).toEqual([true, true]);
    await user.remove('diskImages', 'one');
    await user.gone('diskImages', 'one');
    expect(isWhole(two)).toBe(true);
    await user.declareDisk('heir', { size: '32Mi', source: { type: 'diskImage', diskImage: { name: 'two' } } });
    await user.diskWith('heir', 'Ready');
    await user.remove('diskImages', 'two', 'heir');
    for (const name of ['two', 'heir']) await user.gone('diskImages', name);
  }, 120_000);

  it('of which one is deleted while both are imported: the other one comes to its end', async (context) => {
    context.skip(machineAddress === undefined, 'this machine has no address but the loopback one');
    const { user } = scene();
    let isOpen = false;
    const before = server.requests.length;
    server.answer = (_, response) => {
      if (!isOpen) response.writeHead(503).end();
      return !isOpen;
    };
    for (const name of ['first', 'second']) await user.declareDisk(name, { nodeName: 'worker-a', source });
    await expect.poll(() => server.requests.length - before, { timeout: 20_000 }).toBeGreaterThanOrEqual(2);
    await user.remove('diskImages', 'first');
    await user.gone('diskImages', 'first');
    isOpen = true;
    const second = await user.diskWith('second', 'Ready');
    expect(isWhole(second.status.diskId ?? '')).toBe(true);
    await user.remove('diskImages', 'second');
    await user.gone('diskImages', 'second');
  }, 120_000);
});
