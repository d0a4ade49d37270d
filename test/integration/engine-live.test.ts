import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { QmpClient } from '../../src/qemu/qmp-client.ts';
import { daemonIdOf, runDirectory } from '../../src/engine/supervisor/run-directory.ts';
import { MiB } from '../../src/lib/bytes.ts';
import type { ChainLayer } from '../../src/store/records.ts';
import { DeviceWriter } from '../device-writer.ts';
import { EngineBench, sh } from '../engine-bench.ts';

const size = 64 * MiB;
const diskId = 'disk';

let bench: EngineBench;
beforeEach(() => {
  bench = new EngineBench();
});
afterEach(() => bench.close());

it('switches heads under writes without losing or mixing a byte', async () => {
  const attacher = await bench.attacher();
  const chain: ChainLayer[] = [bench.image('qcow2', size)];
  const request = () => ({ diskId, chain, viaEngine: false, discard: true });
  const device = await attacher.attach(request());
  const writer = await DeviceWriter.on(device.path, size);
  for (let turn = 0; turn < 12; turn++) {
    const overlay = bench.image('qcow2', size, { backing: chain[0]! });
    await attacher.prepareHead(diskId, overlay, true);
    await attacher.prepareHead(diskId, overlay, true);
    expect(await attacher.activeHead(diskId)).toBe(chain[0]!.id);
    const before = writer.writes;
    await attacher.switchHead(diskId, overlay.id);
    await attacher.switchHead(diskId, overlay.id);
    chain.unshift(overlay);
    expect(await attacher.activeHead(diskId)).toBe(overlay.id);
    await expect.poll(() => writer.writes, { timeout: 60_000, interval: 5 }).toBeGreaterThan(before + 10);
  }
  await writer.stop();
  await attacher.detach(request());
  expect(contentOf(chain[0]!).equals(writer.expected)).toBe(true);
});

it('leaves in a sealed layer what was there at the switch', async () => {
  const attacher = await bench.attacher();
  const base = bench.image('qcow2', size);
  const { path: device } = await attacher.attach({ diskId, chain: [base], viaEngine: false, discard: true });
  const write = async (text: string) => {
    const handle = await open(device, 'r+');
    await handle.write(text, MiB);
    await handle.sync();
    await handle.close();
  };
  await write('before');
  const overlay = bench.image('qcow2', size, { backing: base });
  await attacher.prepareHead(diskId, overlay, true);
  await attacher.switchHead(diskId, overlay.id);
  await write('after!');
  await attacher.detach({ diskId, chain: [overlay, base] });
  const at = (layer: ChainLayer) =>
    contentOf(layer)
      .subarray(MiB, MiB + 6)
      .toString();
  expect([at(base), at(overlay)]).toEqual(['before', 'after!']);
});

it('opens sealed layers read-only once the head is switched', async () => {
  const attacher = await bench.attacher();
  const base = bench.image('qcow2', size);
  await attacher.attach({ diskId, chain: [base], viaEngine: false, discard: true });
  const overlay = bench.image('qcow2', size, { backing: base });
  await attacher.prepareHead(diskId, overlay, true);
  await attacher.switchHead(diskId, overlay.id);
  const qmp = await QmpClient.open(runDirectory(bench.runDir).daemon(daemonIdOf(diskId)).operationsSocket, 5000);
  const nodes = await qmp.queryNamedBlockNodes();
  qmp.close();
  const readOnly = Object.fromEntries(nodes.map((node) => [node.nodeName, node.readOnly]));
  expect(readOnly).toMatchObject({ [base.id]: true, [overlay.id]: false });
  await attacher.detach({ diskId, chain: [overlay, base] });
});

it('grows a disk whose head was switched', async () => {
  const attacher = await bench.attacher();
  const base = bench.image('qcow2', size);
  const { path: device } = await attacher.attach({ diskId, chain: [base], viaEngine: false, discard: true });
  const overlay = bench.image('qcow2', size, { backing: base });
  await attacher.prepareHead(diskId, overlay, true);
  await attacher.switchHead(diskId, overlay.id);
  await attacher.resize({ diskId, chain: [overlay, base] }, 2 * size);
  expect(Number(sh('blockdev', '--getsize64', device))).toBe(2 * size);
  await attacher.detach({ diskId, chain: [overlay, base] });
});

it('serves a disk that has grown by the thread of its export, never by the one that changes the graph', async () => {
  const attacher = await bench.attacher();
  const layer = bench.image('qcow2', size);
  const { path: device } = await attacher.attach({ diskId, chain: [layer], viaEngine: false, discard: true });
  await attacher.resize({ diskId, chain: [layer] }, 2 * size);
  const pid = await bench.daemonPid(diskId);
  const written = () => ({
    byAll: writtenBytes(`/proc/${pid}/io`),
    byMain: writtenBytes(`/proc/${pid}/task/${pid}/io`),
  });
  const before = written();
  // Where nobody has read yet, of which the kernel holds a copy: udev looks at both ends of what has another size.
  sh('dd', `if=${device}`, 'of=/dev/null', 'bs=1M', 'skip=64', 'count=32', 'iflag=direct', 'status=none');
  const after = written();
  expect(after.byAll - before.byAll).toBeGreaterThanOrEqual(32 * MiB);
  expect(after.byMain - before.byMain).toBeLessThan(MiB);
  await attacher.detach({ diskId, chain: [layer] });
});

it('says that a disk without a daemon is not attached', async () => {
  const attacher = await bench.attacher();
  expect(await attacher.activeHead(diskId)).toBeNull();
  const overlay = bench.image('qcow2', size);
  await expect(attacher.prepareHead(diskId, overlay, true)).rejects.toMatchObject({ code: 'not-attached' });
  await expect(attacher.resize({ diskId, chain: [overlay] }, size)).rejects.toMatchObject({ code: 'not-attached' });
});

/** What was written to files of all kinds, replies to the kernel's FUSE requests among them. */
function writtenBytes(ioFile: string): number {
  return Number(/^wchar: (\d+)$/m.exec(readFileSync(ioFile, 'utf8'))?.[1]);
}

function contentOf(layer: ChainLayer): Buffer {
  const file = `${layer.path}.raw`;
  sh('qemu-img', 'convert', '-f', layer.format, '-O', 'raw', layer.path, file);
  return readFileSync(file);
}
