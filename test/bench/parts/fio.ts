import { rm } from 'node:fs/promises';
import { createLoopDevice, removeLoopDevice } from '../../../src/host/loop.ts';
import { KiB, MiB } from '../../../src/lib/bytes.ts';
import { run } from '../../../src/lib/exec.ts';
import { attach, type Bench, createBlock, fileIn, fill, interleave, remove } from '../bench.ts';
import { fio, type FioJob } from '../fio.ts';
import { medianResult, type Result } from '../results.ts';
import { ratios } from '../statistics.ts';

type Workload = Pick<FioJob, 'pattern' | 'blockBytes' | 'queueDepth'> & {
  name: string;
  rawAtLeast: number;
  qcow2AtLeast: number;
};

const small = { blockBytes: 4 * KiB, queueDepth: 32, rawAtLeast: 0.97 };
const sequential = { blockBytes: MiB, queueDepth: 8, rawAtLeast: 0.97, qcow2AtLeast: 0.8 };
const workloads: readonly Workload[] = [
  { name: '4k randread qd32', pattern: 'randread', ...small, qcow2AtLeast: 0.45 },
  { name: '4k randwrite qd32', pattern: 'randwrite', ...small, qcow2AtLeast: 0.3 },
  { name: '1M sequential read', pattern: 'read', ...sequential },
  { name: '1M sequential write', pattern: 'write', ...sequential },
];

/** Volumes as block devices, all blocks written, against a loop device with direct I/O on a raw file beside the pool. */
export async function measureFio(bench: Bench): Promise<Result[]> {
  const sizeBytes = bench.effort.fioBytes;
  const file = fileIn(bench, 'baseline.raw');
  await run('fallocate', ['--length', String(sizeBytes), file], { timeoutMs: 60_000 });
  const loop = await createLoopDevice(file, { directIo: true });
  const raw = await createBlock(bench, 'raw', sizeBytes, { format: 'raw', preallocation: 'falloc' });
  const qcow2 = await createBlock(bench, 'qcow2', sizeBytes);
  const devices = [loop, await attach(bench, raw), await attach(bench, qcow2)];
  for (const device of devices) await fill(device, sizeBytes);
  const results: Result[] = [];
  for (const workload of workloads) results.push(...(await compare(bench, devices, workload)));
  await remove(bench, raw, qcow2);
  await removeLoopDevice(loop);
  await rm(file);
  return results;
}

async function compare({ effort, say }: Bench, devices: readonly string[], workload: Workload): Promise<Result[]> {
  const { name, pattern, blockBytes, queueDepth } = workload;
  say(`fio: ${name}`);
  const measure = (file: string) => async () => {
    const done = await fio({
      file,
      pattern,
      blockBytes,
      queueDepth,
      sizeBytes: effort.fioBytes,
      seconds: effort.fioSeconds,
    });
    return blockBytes < MiB ? done.iops : done.bytesPerSecond / 1e6;
  };
  const [loop = [], raw = [], qcow2 = []] = await interleave(effort.rounds, devices.map(measure));
  const unit = blockBytes < MiB ? 'IOPS' : 'MB/s';
  return [
    medianResult(`loop device on a raw file, ${name}`, unit, loop),
    medianResult(`raw volume, ${name}`, unit, raw),
    medianResult(`raw volume / loop device, ${name}`, 'ratio', ratios(raw, loop), { atLeast: workload.rawAtLeast }),
    medianResult(`qcow2 volume, ${name}`, unit, qcow2),
    medianResult(`qcow2 volume / loop device, ${name}`, 'ratio', ratios(qcow2, loop), {
      atLeast: workload.qcow2AtLeast,
    }),
  ];
}
