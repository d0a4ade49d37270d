import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { listSteps } from '../../src/lib/checkpoint.ts';
import { nodeSteps } from '../../src/reconcile/node/node-steps.ts';
import { imageSteps } from '../../src/store/steps.ts';
import { importSteps, transferSteps } from '../../src/transfer/layers/steps.ts';
import { systemNamespace } from '../cluster/objects.ts';
import { until } from '../cluster/until.ts';
import { sha256 } from '../fakes/image-registry.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { untilServing } from './installation.ts';
import { diskImage } from './objects.ts';
import { stories } from './stories.ts';

/** So much that progress is recorded on the way, on both sides. */
const bytes = 96 * MiB;
const killed = 137;

/** All that an import and a transfer do outside of the process; the step left out is of disks. */
const steps = listSteps({
  ...importSteps,
  'create-image': imageSteps['create-image'],
  ...transferSteps,
  'install-layer': imageSteps['install-layer'],
  'make-image': nodeSteps['make-image'].filter((step) => step !== 'disk-made'),
});

stories('killed at one step after the other of imports and transfers', (scene) => {
  const content = randomBytes(bytes);
  const compressed = gzipSync(content, { level: 1 });
  let server: ImageServer;
  let url: string;

  beforeAll(async () => {
    server = await ImageServer.start(await scene().cluster.hostAddress());
    url = server.put('/disk.raw.gz', compressed);
  });

  afterAll(async () => {
    const { kubectl, cluster } = scene();
    await server.close();
    const containers = [{ name: 'node', env: [{ ...killAt, $patch: 'delete' }] }];
    // As in the chart, or helm would find somebody else's value there.
    await patch({ shareProcessNamespace: null, containers }, '10%');
    await untilServing(kubectl, cluster.workers);
  }, 300_000);

  const killAt = { name: 'LAMINA_KILL_AT' };
  /** Changes the pods of the node plugin, on all nodes at once. */
  async function patch(spec: object, maxUnavailable = '100%'): Promise<void> {
    const system = scene().kubectl.in(systemNamespace);
    const all = { updateStrategy: { rollingUpdate: { maxUnavailable } }, template: { spec } };
    await system.run(['patch', 'daemonset', 'lamina-node', '--patch', JSON.stringify({ spec: all })]);
  }

  async function plugins() {
    return scene().kubectl.in(systemNamespace).list('pods', '-l', 'app.kubernetes.io/component=node');
  }

  async function killNodePluginsAt(step: string): Promise<void> {
    const before = (await plugins()).map(({ metadata }) => metadata.uid);
    // The first process of a namespace cannot kill itself.
    await patch({ shareProcessNamespace: true, containers: [{ name: 'node', env: [{ ...killAt, value: step }] }] });
    await until('the node plugins are others', async () => {
      const now = (await plugins()).filter(({ status }) => status?.containerStatuses?.[0]?.started !== undefined);
      return now.length === before.length && now.every(({ metadata }) => !before.includes(metadata.uid))
        ? now
        : undefined;
    });
  }

  async function hasKilledItself(): Promise<true | undefined> {
    // oxlint-disable-next-line typescript/no-explicit-any
    const containers = (await plugins()).flatMap(({ status }) => (status?.containerStatuses ?? []) as any[]);
    const endings = containers.flatMap(({ name, state, lastState }) => (name === 'node' ? [state, lastState] : []));
    return endings.some((each) => each?.terminated?.exitCode === killed) || undefined;
  }

  it('the node plugins go on, and no node has anything but whole layers', { timeout: 1_500_000 }, async () => {
    const { kubectl, cluster } = scene();
    const [here, there] = cluster.workers;
    const names = steps.map((step) => step.replace('/', '-'));
    for (const [index, step] of steps.entries()) {
      await killNodePluginsAt(step);
      const name = names[index] ?? '';
      const http = { url, checksum: sha256(compressed) };
      await kubectl.apply(
        diskImage(name, { nodeName: here, nodes: [there], format: 'raw', source: { type: 'http', http } }),
      );
      await until(`a node plugin kills itself at ${step}`, hasKilledItself, { timeoutMs: 90_000 });
    }
    await patch({ containers: [{ name: 'node', env: [{ ...killAt, $patch: 'delete' }] }] });
    await untilServing(kubectl, cluster.workers);
    for (const name of names) {
      for (const condition of ['Ready', 'Copied']) {
        const args = ['wait', `diskimage/${name}`, `--for=condition=${condition}`, '--timeout=300s'];
        await kubectl.run(args, { timeoutMs: 310_000 });
      }
    }
    const digest = sha256(content);
    for (const node of cluster.workers) {
      const sums = await cluster.onNode(
        node,
        `find /var/lib/lamina/layers -name 'data.*' -exec sha256sum {} + | sed 's/^/sha256:/; s/ .*//'`,
      );
      expect(sums.split('\n'), node).toEqual(names.map(() => digest));
    }
    await kubectl.remove('diskimage', ...names);
  });
});
