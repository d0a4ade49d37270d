import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { pollUntil } from '../../src/lib/poll.ts';
import { Daemon } from '../cluster/daemon.ts';
import type { Cluster } from '../cluster/cluster.ts';
import * as kinds from '../cluster/kinds.ts';
import { userNamespace } from '../cluster/objects.ts';
import { type Bench, interleave, timed, uniqueName } from './bench.ts';
import { medianResult, type Result } from './results.ts';

const atOnce = 100;
const hostPathDriver = 'hostpath.csi.k8s.io';

/** From a claim to its volume, one at a time and very many at once; with csi-driver-host-path and the same sidecar beside it. */
export async function measureClaims(bench: Bench, cluster: Cluster): Promise<Result[]> {
  const { effort, hostPathPlugin, say } = bench;
  const classes = [{ who: 'Lamina', storageClassName: 'immediate' }];
  const daemons = hostPathPlugin === null ? [] : await startHostPath(hostPathPlugin, cluster);
  if (hostPathPlugin !== null) classes.push({ who: 'host-path', storageClassName: 'host-path' });
  say('operator: one claim after the other');
  const one = classes.map(
    ({ storageClassName }) =>
      () =>
        timeClaims(bench, cluster, storageClassName, 1),
  );
  const single = await interleave(effort.calls, one);
  say(`operator: ${atOnce} claims at once`);
  const many = classes.map(
    ({ storageClassName }) =>
      () =>
        timeClaims(bench, cluster, storageClassName, atOnce),
  );
  const together = await interleave(3, many);
  for (const daemon of daemons.toReversed()) await daemon.kill9();
  return classes.flatMap(({ who }, index) => [
    medianResult(`${who}: claim to bound`, 'ms', single[index] ?? []),
    medianResult(`${who}: ${atOnce} claims to bound`, 'ms', together[index] ?? []),
  ]);
}

/** @returns until the last of them is bound, in ms; they are deleted afterwards */
async function timeClaims(
  { signal }: Bench,
  { kube }: Cluster,
  storageClassName: string,
  count: number,
): Promise<number> {
  signal.throwIfAborted();
  const names = Array.from({ length: count }, () => uniqueName('claim'));
  const spec = { storageClassName, accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '64Mi' } } };
  const areAll = async (isAsWanted: (found: kinds.Claim | undefined) => boolean): Promise<boolean> => {
    const [name = ''] = names;
    if (count === 1) return isAsWanted(await kube.claims.get({ namespace: userNamespace, name }));
    const all = new Map((await kube.claims.list({ namespace: userNamespace })).map((is) => [is.metadata.name, is]));
    return names.every((each) => isAsWanted(all.get(each)));
  };
  const { ms } = await timed(async () => {
    await Promise.all(
      names.map((name) => kube.claims.create({ ...{ spec }, metadata: { namespace: userNamespace, name } })),
    );
    const bound = () => areAll((found) => found?.status?.phase === 'Bound');
    if (!(await pollUntil(bound, { timeoutMs: 120_000, intervalMs: 10 })))
      throw new Error('not bound after two minutes');
  });
  await Promise.all(names.map((name) => kube.claims.removeIfPresent({ namespace: userNamespace, name })));
  const gone = async () => (await areAll((found) => found === undefined)) && (await kube.volumes.list()).length === 0;
  if (!(await pollUntil(gone, { timeoutMs: 120_000, intervalMs: 50 })))
    throw new Error('not deleted after two minutes');
  return ms;
}

/** The other driver, whose volumes are directories, with a provisioner of its own. */
async function startHostPath(binary: string, cluster: Cluster): Promise<Daemon[]> {
  const { kube, logs } = cluster;
  const directory = path.join(logs, 'host-path');
  await mkdir(directory, { recursive: true });
  const socket = path.join(directory, 'csi.sock');
  const common = { metadata: { name: 'host-path' }, provisioner: hostPathDriver, volumeBindingMode: 'Immediate' };
  await kube.of(kinds.drivers).create({ ...{ spec: { attachRequired: false } }, metadata: { name: hostPathDriver } });
  await kube.of(kinds.storageClasses).create(common);
  const options = [`--endpoint=unix://${socket}`, `--statedir=${directory}`, '--nodeid=bench'];
  const command = [binary, ...options, `--drivername=${hostPathDriver}`] as const;
  const daemons = [
    new Daemon({ name: 'host-path', directory: logs, command }),
    cluster.provisioner('host-path-provisioner', socket),
  ];
  for (const daemon of daemons) await daemon.start();
  return daemons;
}
