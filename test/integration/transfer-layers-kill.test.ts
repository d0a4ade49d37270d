import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import { listSteps } from '../../src/lib/checkpoint.ts';
import { checkPool } from '../../src/store/check.ts';
import { transferSteps } from '../../src/transfer/layers/steps.ts';
import { removeDirectory, temporaryDirectory, writePattern } from '../detached-pool.ts';
import { fetchSnapshot, type TransferNode } from '../transfer-node.ts';
import { createDisk, expectSameContent, TransferScene } from '../transfer-scene.ts';

describe('killed in the middle of a transfer', () => {
  let scene: TransferScene;
  let source: TransferNode;
  beforeEach(async () => {
    scene = await TransferScene.create(temporaryDirectory());
    source = await scene.addNode('source');
    await createDisk(source, 'a', GiB);
    writePattern(source, 'a', 1, 0, 150 * MiB);
    await source.disks.createSnapshot({ name: 's0', diskId: 'a' });
    writePattern(source, 'a', 2, 4 * MiB, 8 * MiB);
    await source.disks.createSnapshot({ name: 's1', diskId: 'a' });
  });
  afterEach(async () => {
    await scene.close();
    removeDirectory(scene.directory);
  });

  /** From which byte each transfer of a layer began, in order. */
  const beginnings = ({ log }: TransferNode) =>
    log.entries.filter(({ message }) => message === 'sending a layer').map(({ fields }) => Number(fields['from']));

  async function expectComplete(target: TransferNode): Promise<void> {
    expectSameContent(source, target, target.pool.snapshot('s1').layer);
    expect(await checkPool(target.directory, () => {})).toMatchObject({ problems: [], leftovers: [] });
    expect(readdirSync(path.join(target.directory, 'incoming'))).toEqual([]);
  }

  it.each(listSteps(transferSteps))('at %s, the receiver goes on when it is started again', async (killAt) => {
    const victim = await scene.startNode('target', { fetch: { peer: source.peer, id: 's1', killAt } });
    expect(await victim.end(), `${killAt} was never reached`).toBe('SIGKILL');
    const before = beginnings(source).length;
    const target = await scene.addNode('target');
    expect(target.pool.layers.size).toBe(0);
    await fetchSnapshot(source.peer, target, 's1');
    await expectComplete(target);
    const again = beginnings(source).slice(before);
    if (killAt === 'fetch-layers/layer-progressed') expect(again[0]).toBeGreaterThan(60 * MiB);
    if (killAt === 'fetch-layers/layer-complete') expect(again).toHaveLength(1);
  });

  it('at any moment, the receiver goes on from what was safe', async () => {
    const options = { fetch: { peer: source.peer, id: 's1', killAt: null }, receiveBytesPerSecond: 30 * MiB };
    const victim = await scene.startNode('target', options);
    const incoming = path.join(scene.directory, 'target', 'incoming');
    const fileOf = (name: string) => path.join(incoming, readdirSync(incoming)[0] ?? '', name);
    const received = () => statSync(fileOf('data.qcow2')).blocks * 512;
    // What has come is flushed before it is recorded, which takes a slow disk as long as it likes.
    const safe = () =>
      (JSON.parse(readFileSync(fileOf('transfer.json'), 'utf8')) as { offsetBytes: number }).offsetBytes;
    await expect.poll(received, { timeout: 60_000 }).toBeGreaterThan(80 * MiB);
    await expect.poll(safe, { timeout: 60_000 }).toBeGreaterThan(60 * MiB);
    await victim.kill();
    const target = await scene.addNode('target');
    await fetchSnapshot(source.peer, target, 's1');
    await expectComplete(target);
    expect(beginnings(source)[1]).toBeGreaterThan(60 * MiB);
  });

  it('the sender is waited for, and what it has sent is not asked for again', async () => {
    await scene.removeNode(source);
    const sender = await scene.startNode('source', { sendBytesPerSecond: 40 * MiB });
    const target = await scene.addNode('target');
    let received = 0;
    const onProgress = (progress: { receivedBytes: number }) => {
      received = progress.receivedBytes;
    };
    const fetched = fetchSnapshot(sender.peer, target, 's1', { onProgress });
    await expect.poll(() => received, { timeout: 20_000 }).toBeGreaterThan(20 * MiB);
    await sender.kill();
    const port = Number(sender.peer.address.split(':')[1]);
    source = await scene.addNode('source', { port });
    await fetched;
    await expectComplete(target);
    expect(beginnings(source)[0]).toBeGreaterThan(20 * MiB);
  });
});
