import { readFile } from 'node:fs/promises';
import { GiB, KiB } from '../../../src/lib/bytes.ts';
import { processesNaming } from '../../standalone.ts';
import { attach, type Bench, createBlock, fill, remove, uniqueName } from '../bench.ts';
import { fio } from '../fio.ts';
import { medianResult, type Result } from '../results.ts';

const volumes = 5;

/** Resident memory of plugin, supervisor and daemons with volumes in use, in megabytes (10^6), after whatever was measured before. */
export async function measureMemory(bench: Bench): Promise<Result[]> {
  const { csi, effort, say } = bench;
  say(`memory: ${volumes} volumes in use`);
  const sizeBytes = Math.min(effort.fioBytes, GiB / 2);
  const made = [];
  const snapshots = [];
  for (let count = 0; count < volumes; count++) {
    const volume = await createBlock(bench, 'memory', sizeBytes);
    made.push(volume);
    const device = await attach(bench, volume);
    await fill(device, sizeBytes);
    snapshots.push(await csi.createSnapshot(volume.id, uniqueName('memory-snapshot')));
    await fio({ file: device, pattern: 'randrw', blockBytes: 4 * KiB, queueDepth: 32, sizeBytes, seconds: 1 });
  }
  const processes = await processesNaming(bench.workspace.directory);
  const sizes = async (pattern: RegExp) => {
    const found = processes.filter(({ command }) => pattern.test(command));
    if (found.length === 0)
      throw new Error(`no process is ${pattern.source} among:\n${processes.map(({ command }) => command).join('\n')}`);
    return Promise.all(found.map(({ pid }) => residentMegabytes(pid)));
  };
  const results = [
    medianResult('memory of the plugin', 'MB', await sizes(/main\.js standalone /), { atMost: 130 }),
    medianResult('memory of the supervisor', 'MB', await sizes(/main\.js engine /), { atMost: 60 }),
    medianResult('memory of a daemon', 'MB', await sizes(/^\S*qemu-storage-daemon /), { atMost: 12 }),
  ];
  await remove(bench, ...made);
  for (const { id } of snapshots) await csi.deleteSnapshot(id);
  return results;
}

async function residentMegabytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  if (kibibytes === undefined) throw new Error(`process ${pid} has ended`);
  return (Number(kibibytes) * KiB) / 1e6;
}
