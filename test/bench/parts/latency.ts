import { GiB, MiB, TiB } from '../../../src/lib/bytes.ts';
import type { CreatedSnapshot, CreatedVolume, CsiClient } from '../../csi-client.ts';
import { attach, type Bench, createBlock, detach, fill, interleave, timed, uniqueName } from '../bench.ts';
import { medianResult, type Result } from '../results.ts';
import { ratios } from '../statistics.ts';

const atOnce = 200;
const sameTime = { between: [0.8, 1.2] } as const;

/** How long the calls take that an orchestrator waits for, and whether size matters. */
export async function measureLatency(bench: Bench): Promise<Result[]> {
  return [...(await measureCreate(bench)), ...(await measureCopies(bench)), ...(await measureAtOnce(bench))];
}

async function measureCreate({ csi, effort, say }: Bench): Promise<Result[]> {
  say('latency: create and delete');
  const creates: number[] = [];
  const deletes: number[] = [];
  for (let call = 0; call < effort.calls; call++) {
    const created = await timed(() => csi.createVolume({ name: uniqueName('create'), sizeBytes: GiB }));
    const deleted = await timed(() => csi.deleteVolume(created.value.id));
    creates.push(created.ms);
    deletes.push(deleted.ms);
  }
  return [
    medianResult('create, 1 GiB', 'ms', creates, { atMost: 60 }),
    medianResult('delete', 'ms', deletes, { atMost: 60 }),
  ];
}

interface Source {
  volume: CreatedVolume;
  snapshot: CreatedSnapshot;
}

/** Restore and clone at 1 GiB and at 1 TiB, in turns. */
async function measureCopies(bench: Bench): Promise<Result[]> {
  const { csi, effort, say } = bench;
  say('latency: writing what is cloned and restored');
  const small = await makeSource(bench, GiB, 512 * MiB);
  const large = await makeSource(bench, TiB, effort.dataBytes);
  const sources = [small, large];
  say('latency: restore and clone');
  const restores = sources.map(
    ({ volume, snapshot }) =>
      () =>
        timeCopy(csi, volume, { snapshotId: snapshot.id }),
  );
  const [restoreSmall = [], restoreLarge = []] = await interleave(effort.calls, restores);
  const clones = sources.map(
    ({ volume }) =>
      () =>
        timeCopy(csi, volume, { volumeId: volume.id }),
  );
  const [cloneSmall = [], cloneLarge = []] = await interleave(effort.calls, clones);
  for (const { volume, snapshot } of sources) {
    await csi.deleteVolume(volume.id);
    await csi.deleteSnapshot(snapshot.id);
  }
  const data = `1 TiB with ${effort.dataBytes / GiB} GiB of data`;
  return [
    medianResult('restore, 1 GiB', 'ms', restoreSmall, { atMost: 100 }),
    medianResult(`restore, ${data}`, 'ms', restoreLarge, { atMost: 100 }),
    medianResult('restore, 1 TiB / 1 GiB', 'ratio', ratios(restoreLarge, restoreSmall), sameTime),
    medianResult('clone, 1 GiB', 'ms', cloneSmall, { atMost: 100 }),
    medianResult(`clone, ${data}`, 'ms', cloneLarge, { atMost: 100 }),
    medianResult('clone, 1 TiB / 1 GiB', 'ratio', ratios(cloneLarge, cloneSmall), sameTime),
  ];
}

async function makeSource(bench: Bench, sizeBytes: number, dataBytes: number): Promise<Source> {
  const volume = await createBlock(bench, 'source', sizeBytes);
  await fill(await attach(bench, volume), dataBytes);
  await detach(bench, volume);
  return { volume, snapshot: await bench.csi.createSnapshot(volume.id, uniqueName('source-snapshot')) };
}

async function timeCopy(
  csi: CsiClient,
  { sizeBytes, access }: CreatedVolume,
  source: { snapshotId: string } | { volumeId: string },
): Promise<number> {
  const { value, ms } = await timed(() => csi.createVolume({ name: uniqueName('copy'), sizeBytes, source, access }));
  await csi.deleteVolume(value.id);
  return ms;
}

async function measureAtOnce({ csi, say }: Bench): Promise<Result[]> {
  say(`latency: ${atOnce} creates at once`);
  const names = Array.from({ length: atOnce }, () => uniqueName('at-once'));
  const created = await timed(() => Promise.all(names.map((name) => csi.createVolume({ name, sizeBytes: GiB }))));
  const { entries } = await csi.controller.listVolumes();
  const listed = new Set(entries.map(({ volume }) => volume?.volumeId));
  const lost = created.value.filter(({ id }) => !listed.has(id)).length;
  const deleted = await timed(() => Promise.all(created.value.map(({ id }) => csi.deleteVolume(id))));
  return [
    medianResult(`${atOnce} creates at once, lost`, 'volumes', [lost], { atMost: 0 }),
    medianResult(`${atOnce} creates at once, all done`, 'ms', [created.ms]),
    medianResult(`${atOnce} deletes at once, all done`, 'ms', [deleted.ms]),
  ];
}
