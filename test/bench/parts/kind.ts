import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pollUntil } from '../../../src/lib/poll.ts';
import { connectKube } from '../../cluster/kube.ts';
import { systemNamespace } from '../../cluster/objects.ts';
import { applySnapshotDefinitions, helm, loadImages, untilServing } from '../../e2e/installation.ts';
import { KindCluster } from '../../e2e/kind-cluster.ts';
import { Kubectl } from '../../e2e/kubectl.ts';
import { findMachine } from '../../e2e/machine.ts';
import { claim, diskImage, pod } from '../../e2e/objects.ts';
import { type Bench, measureInTurn, timed } from '../bench.ts';
import { installHostPath } from '../host-path-in-cluster.ts';
import { isReady, lamina, measureMany, measureOne, waitFor } from '../kind-volumes.ts';
import { medianResult, type Result } from '../results.ts';

/** What a user of a cluster waits for. Most figures have the time in them that kubectl itself takes, which is measured, too. */
export async function measureKind(bench: Bench): Promise<Result[]> {
  const machine = findMachine();
  if ('missing' in machine) {
    bench.say(`kind: not measured: ${machine.missing}`);
    return [];
  }
  const directory = await mkdtemp(path.join(tmpdir(), 'lamina-bench-'));
  const cluster = new KindCluster('lamina-bench', path.join(directory, 'kubeconfig'));
  try {
    bench.say('kind: making a cluster of three nodes, and installing the chart');
    await cluster.create(machine);
    await loadImages(cluster);
    const kubectl = new Kubectl(cluster.kubeconfig, 'default');
    await applySnapshotDefinitions(kubectl, machine);
    await helm(kubectl, 'install', { args: ['--create-namespace'] });
    await untilServing(kubectl, cluster.workers);
    const drivers = [lamina];
    if (bench.hostPathImage !== null) drivers.push(await installHostPath(cluster, kubectl, bench.hostPathImage));
    const measures = [
      () => measureOne(bench, kubectl, drivers),
      () => measureMany(bench, kubectl, drivers),
      () => measureImages(bench, kubectl, cluster),
      () => measureFio(bench, kubectl, cluster),
      () => measureMemory(kubectl, cluster),
    ];
    return await measureInTurn(measures, bench.say);
  } finally {
    await cluster.destroy();
    await rm(directory, { recursive: true });
  }
}

/**
 * Golden images that differ in what they hold and in how big they look, and claims that start from them, in turns, on the
 * node that has them: on another one the first would wait for the transfer. By the API itself, as two calls of kubectl
 * take as long as the claim.
 */
async function measureImages(
  { effort, say, signal }: Bench,
  kubectl: Kubectl,
  { kubeconfig, workers: [node] }: KindCluster,
): Promise<Result[]> {
  const images = {
    small: { size: '1Gi', megabytes: 16 },
    big: { size: '100Gi', megabytes: 4096 },
  } as const;
  const ms: Record<string, number[]> = { small: [], big: [] };
  for (const [name, { size, megabytes }] of Object.entries(images)) {
    const fill = `head -c ${megabytes}M /dev/urandom >/data/file; sync; touch /tmp/filled; sleep infinity`;
    await kubectl.apply(claim({ name, size }), pod({ name, claim: name, node, script: fill }));
    await kubectl.untilReady(name);
    await kubectl.inPod(name, 'until test -e /tmp/filled; do sleep 1; done', 300_000);
    const source = { type: 'persistentVolumeClaim', persistentVolumeClaim: { name } };
    await kubectl.apply(diskImage(name, { source }));
    await waitFor(kubectl, `diskimage/${name}`, isReady);
    await kubectl.remove('pod', name);
    // The image stays, and there is room for its heirs: without, each waits until the scheduler hears of what the last gave back.
    await kubectl.remove('pvc', name);
  }
  const kube = await connectKube(kubeconfig);
  const at = { namespace: 'default', name: 'heir' };
  const isBound = async () => (await kube.claims.get(at))?.status?.phase === 'Bound';
  try {
    for (let round = 0; round < effort.calls / 4; round++) {
      for (const [name, measured] of Object.entries(ms)) {
        signal.throwIfAborted();
        say(`kind: a claim from the ${name} image, round ${round + 1}`);
        const { value, ms: took } = await timed(async () => {
          const heir = pod({ name: 'heir', claim: 'heir', node });
          await kube.claims.create({ ...claim({ name: 'heir', size: '100Gi', image: name }), metadata: at });
          await kube.pods.create({ ...heir, metadata: { ...heir.metadata, ...at } });
          return pollUntil(isBound, { timeoutMs: 300_000, intervalMs: 20 });
        });
        if (!value) throw new Error(`a claim from the ${name} image is not bound within 300 s`);
        measured.push(took);
        await kubectl.untilReady('heir');
        await kubectl.remove('pod', 'heir');
        await kubectl.remove('pvc', 'heir');
      }
    }
  } finally {
    kube.close();
  }
  await kubectl.remove('diskimage', ...Object.keys(images));
  const { small = [], big = [] } = ms;
  const ratios = big.map((value, index) => value / (small[index] ?? Number.NaN));
  return [
    medianResult('a claim and its pod from an image of 1 GiB with 16 MiB of data, until bound', 'ms', small, {
      atMost: 1500,
    }),
    medianResult('the same of 100 GiB with 4 GiB of data', 'ms', big, { atMost: 1500 }),
    medianResult('100 GiB / 1 GiB', 'ratio', ratios, { between: [0.8, 1.2] }),
  ];
}

/** In a pod against a file beside the pool on the same node, in turns. */
async function measureFio({ effort, say, signal }: Bench, kubectl: Kubectl, cluster: KindCluster): Promise<Result[]> {
  const [node] = cluster.workers;
  const volumes = { qcow2: 'lamina', raw: 'lamina-raw' } as const;
  for (const [name, storageClassName] of Object.entries(volumes)) {
    await kubectl.apply(claim({ name, storageClassName, size: '2Gi' }), pod({ name, claim: name, node }));
    await kubectl.untilReady(name);
  }
  // The pod sees the node's own file by way of a volume of the node.
  const { spec, ...own } = pod({ name: 'own', claim: '', node });
  const hostPath = { path: '/var/lib/lamina-bench', type: 'DirectoryOrCreate' };
  await kubectl.apply({ ...own, spec: { ...spec, volumes: [{ name: 'data', hostPath }] } });
  await kubectl.untilReady('own');
  const results: Result[] = [];
  try {
    for (const [pattern, block] of [
      ['randread', '4k'],
      ['randwrite', '4k'],
      ['read', '1M'],
      ['write', '1M'],
    ] as const) {
      const iops: Record<string, number[]> = { own: [], qcow2: [], raw: [] };
      for (let round = 0; round < effort.rounds; round++) {
        signal.throwIfAborted();
        for (const [name, measured] of Object.entries(iops)) {
          measured.push(await fioIn(kubectl, name, { pattern, block, seconds: effort.fioSeconds }));
        }
      }
      say(`kind: fio ${pattern} is measured`);
      for (const name of ['qcow2', 'raw']) {
        const ratios = (iops[name] ?? []).map((value, index) => value / (iops['own']?.[index] ?? Number.NaN));
        results.push(
          medianResult(`${pattern} ${block} in a pod, ${name} volume / the node’s own file`, 'ratio', ratios),
        );
      }
    }
  } finally {
    await kubectl.remove('pod', 'own');
    for (const name of Object.keys(volumes)) await kubectl.remove('pod', name);
    for (const name of Object.keys(volumes)) await kubectl.remove('pvc', name);
    await cluster.onNode(node, 'rm -rf /var/lib/lamina-bench');
  }
  return results;
}

async function fioIn(
  kubectl: Kubectl,
  name: string,
  { pattern, block, seconds }: { pattern: string; block: string; seconds: number },
): Promise<number> {
  const job = `fio --name=x --filename=/data/fio --size=512M --direct=1 --ioengine=libaio --iodepth=32 --rw=${pattern} --bs=${block}`;
  const printed = await kubectl.inPod(name, `${job} --time_based --runtime=${seconds} --output-format=json`);
  const [{ read, write }] = (JSON.parse(printed) as { jobs: [{ read: { iops: number }; write: { iops: number } }] })
    .jobs;
  return read.iops + write.iops;
}

/** Of all processes of each pod together. */
async function measureMemory(kubectl: Kubectl, cluster: KindCluster): Promise<Result[]> {
  const pods = await kubectl.in(systemNamespace).list('pods');
  const megabytes = new Map<string, number[]>();
  for (const node of cluster.workers) {
    for (const { metadata } of pods.filter((each) => each.spec.nodeName === node)) {
      const { uid, labels } = metadata;
      // As the one and the other driver of cgroups writes it.
      const names = `-e pod${uid} -e pod${uid.replaceAll('-', '_')}`;
      const script = `grep -ls ${names} /proc/[0-9]*/cgroup | cut -d/ -f3 | while read -r each; do cat /proc/$each/status 2>/dev/null || true; done`;
      const statuses = await cluster.onNode(node, script);
      const kilobytes = [...statuses.matchAll(/^VmRSS:\s+(\d+)/gm)].map((match) => Number(match[1]));
      if (kilobytes.length === 0) throw new Error(`no process of the pod ${metadata.name} was found on ${node}`);
      const key = `memory of the pod ${labels?.['app.kubernetes.io/component'] ?? metadata.name}`;
      const found = kilobytes.reduce((sum, each) => sum + each, 0) / 1024;
      megabytes.set(key, [...(megabytes.get(key) ?? []), found]);
    }
  }
  return [...megabytes].map(([name, values]) => medianResult(name, 'MB', values));
}
