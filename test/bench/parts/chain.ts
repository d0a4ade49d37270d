import { KiB } from '../../../src/lib/bytes.ts';
import type { CreatedVolume } from '../../csi-client.ts';
import { attach, type Bench, createBlock, fill, interleave, remove, uniqueName } from '../bench.ts';
import { fio } from '../fio.ts';
import { medianResult, type Result } from '../results.ts';
import { ratios } from '../statistics.ts';

const depth = 16;

/** Random reads of a volume whose content lies in 16 layers, against one of a single layer. */
export async function measureChain(bench: Bench): Promise<Result[]> {
  const { effort, say } = bench;
  const sizeBytes = effort.fioBytes;
  const flat = await createBlock(bench, 'flat', sizeBytes);
  const layered = await createBlock(bench, 'layered', sizeBytes);
  const devices = [await attach(bench, flat), await attach(bench, layered)] as const;
  for (const device of devices) await fill(device, sizeBytes);
  say(`chain: writing ${depth} layers`);
  const snapshots = await addLayers(bench, layered, devices[1]);
  say('chain: 4k randread');
  const read = (file: string) => async () => {
    const job = {
      pattern: 'randread',
      blockBytes: 4 * KiB,
      queueDepth: 32,
      sizeBytes,
      seconds: effort.fioSeconds,
    } as const;
    return (await fio({ file, ...job })).iops;
  };
  const [one = [], many = []] = await interleave(effort.rounds, devices.map(read));
  await remove(bench, flat, layered);
  for (const snapshot of snapshots) await bench.csi.deleteSnapshot(snapshot);
  return [
    medianResult('chain of 1, 4k randread qd32', 'IOPS', one),
    medianResult(`chain of ${depth}, 4k randread qd32`, 'IOPS', many),
    medianResult(`chain of ${depth} / chain of 1, 4k randread qd32`, 'ratio', ratios(many, one), { atLeast: 0.9 }),
  ];
}

/** Each layer gets a sixteenth of the volume, at places of its own. */
async function addLayers({ csi, effort }: Bench, volume: CreatedVolume, device: string): Promise<string[]> {
  const snapshots: string[] = [];
  for (let layer = 1; layer < depth; layer++) {
    const { id } = await csi.createSnapshot(volume.id, uniqueName('layer'));
    snapshots.push(id);
    const places = { pattern: 'randwrite', blockBytes: 64 * KiB, queueDepth: 8, seed: layer } as const;
    await fio({ file: device, ...places, sizeBytes: effort.fioBytes, ioBytes: effort.fioBytes / depth });
  }
  return snapshots;
}
