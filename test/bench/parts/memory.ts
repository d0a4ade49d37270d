import { GiB, KiB } from '../../../src/lib/bytes.ts';
import { processesNaming } from '../../standalone.ts';
import { attach, type Bench, createBlock, fill, remove, uniqueName } from '../bench.ts';
import { fio } from '../fio.ts';
import { megabytes } from '../process-figures.ts';
import { medianResult, type Result } from '../results.ts';

const volumes = 5;

const measured = [
  { name: 'the plugin', pattern: /main\.js standalone /, atMost: 130 },
  { name: 'the supervisor', pattern: /main\.js engine /, atMost: 60 },
  { name: 'a daemon', pattern: /^\S*qemu-storage-daemon /, atMost: 12 },
] as const;

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
  const results: Result[] = [];
  for (const { name, pattern, atMost } of measured) {
    const found = processes.filter(({ command }) => pattern.test(command));
    if (found.length === 0)
      throw new Error(`no process is ${name} among:\n${processes.map(({ command }) => command).join('\n')}`);
    const resident = await Promise.all(found.map(({ pid }) => megabytes(pid, 'VmRSS')));
    const anonymous = await Promise.all(found.map(({ pid }) => megabytes(pid, 'RssAnon')));
    results.push(medianResult(`memory of ${name}`, 'MB', resident, { atMost }));
    results.push(medianResult(`memory of ${name}, without mapped files`, 'MB', anonymous));
  }
  await remove(bench, ...made);
  for (const { id } of snapshots) await csi.deleteSnapshot(id);
  return results;
}
