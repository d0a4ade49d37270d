import { afterAll, beforeAll, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { systemNamespace } from '../cluster/objects.ts';
import { until } from '../cluster/until.ts';
import { digestOfHeir } from './heirs.ts';
import { helm, untilServing } from './installation.ts';
import { isReady } from './kubectl.ts';
import { claim, diskImage, pod } from './objects.ts';
import { stories } from './stories.ts';
import { layersSent } from './transfers.ts';
import { originOf, startWebServer } from './web-server.ts';

/** Bytes that cannot be left out as zeroes, and what they add up to. */
const fill = `
head -c 400M /dev/urandom >/srv/www/disk.raw
sha256sum </srv/www/disk.raw | cut -d' ' -f1 >/srv/www/digest
`;
/** Slow enough for something to happen in the middle. */
const rate = '20Mi';

const imported = (name: string, url: string, digest: string, nodeName: string) =>
  diskImage(name, { nodeName, source: { type: 'http', http: { url, checksum: `sha256:${digest}` } } });

stories('imports and transfers that are disturbed', (scene) => {
  beforeAll(async () => {
    const { kubectl, cluster } = scene();
    await helm(kubectl, 'upgrade', { set: [`imports.rate=${rate}`, `transfer.rate=${rate}`] });
    await untilServing(kubectl, cluster.workers);
    const [, there] = cluster.workers;
    await startWebServer(kubectl, 'web', fill, { node: there });
  });

  afterAll(async () => {
    const { kubectl, cluster } = scene();
    await helm(kubectl, 'upgrade');
    await untilServing(kubectl, cluster.workers);
  });

  const digestOf = async () => (await scene().kubectl.inPod('web', 'cat /srv/www/digest')).trim();
  const killNodePlugin = (node: string) =>
    scene().cluster.onNode(node, `pkill -KILL --full 'dist/main.js node' && echo killed`);

  /** Waits until so much of it has come that it is recorded, and not all. */
  async function underWay(name: string, kubectl = scene().kubectl): Promise<void> {
    await until(`${name} is under way`, async () => {
      const image = await kubectl.get('diskimage', name);
      const value = Number.parseInt(image?.status?.progress ?? '0', 10);
      if (image && isReady(image)) throw new Error(`${name} is ready already`);
      return value >= 25 ? value : undefined;
    });
  }

  it('(the node plugin killed) go on where they were', { timeout: 300_000 }, async () => {
    const { kubectl, cluster } = scene();
    const [here, there] = cluster.workers;
    const digest = await digestOf();
    await kubectl.apply(imported('imported', `${await originOf(kubectl, 'web')}/disk.raw`, digest, here));
    await underWay('imported');
    expect(await killNodePlugin(here)).toBe('killed');
    await kubectl.run(['wait', 'diskimage/imported', '--for=condition=Ready', '--timeout=120s']);
    // Not begun anew: the server was asked for a part.
    expect(await kubectl.run(['logs', 'web'])).toContain('response:206');

    await kubectl.apply(
      claim({ name: 'far', volumeMode: 'Block', image: 'imported' }),
      pod({ name: 'far', claim: 'far', block: true, node: there }),
    );
    const { metadata } = (await kubectl.get('pvc', 'far')) ?? {};
    const system = kubectl.in(systemNamespace);
    const volume = `pvc-${metadata?.uid}`;
    await underWay(volume, system);
    expect(await killNodePlugin(here)).toBe('killed');
    await untilServing(kubectl, cluster.workers);
    await underWay(volume, system);
    expect(await killNodePlugin(there)).toBe('killed');
    await kubectl.untilReady('far');
    const sum = await kubectl.inPod('far', `head -c 400M /dev/data | sha256sum | cut -d' ' -f1`);
    expect(sum.trim()).toBe(digest);
    await kubectl.remove('pod', 'far');
    await kubectl.remove('pvc', 'far');
    await kubectl.remove('diskimage', 'imported');
  });

  it('(deleted in the middle) leave nothing', async () => {
    const { kubectl, cluster } = scene();
    const [here] = cluster.workers;
    await kubectl.apply(imported('unwanted', `${await originOf(kubectl, 'web')}/disk.raw`, await digestOf(), here));
    await underWay('unwanted');
    await kubectl.remove('diskimage', 'unwanted');
    expect(await cluster.onNode(here, 'ls /var/lib/lamina/incoming')).toBe('');
  });

  it('(of a file that is not there) say so, and begin when it is', async () => {
    const { kubectl, cluster } = scene();
    const [here] = cluster.workers;
    await kubectl.apply(imported('early', `${await originOf(kubectl, 'web')}/later.raw`, await digestOf(), here));
    await kubectl.untilSaid('diskimage', 'early', 'answers 404');
    await kubectl.inPod('web', 'ln /srv/www/disk.raw /srv/www/later.raw');
    await kubectl.run(['wait', 'diskimage/early', '--for=condition=Ready', '--timeout=180s'], { timeoutMs: 200_000 });
    await kubectl.remove('diskimage', 'early');
  });

  it('(the node that gives loses its power) wait for it, and go on where they were', { timeout: 600_000 }, async () => {
    const { kubectl, cluster } = scene();
    const [here, there] = cluster.workers;
    const digest = await digestOf();
    await kubectl.apply(imported('given', `${await originOf(kubectl, 'web')}/disk.raw`, digest, here));
    await kubectl.run(['wait', 'diskimage/given', '--for=condition=Ready', '--timeout=110s']);
    await kubectl.run([
      'patch',
      'diskimage',
      'given',
      '--type=merge',
      '-p',
      JSON.stringify({ spec: { nodes: [there] } }),
    ]);
    const copy = await until('there is a copy', async () => {
      const names = (await kubectl.list('diskimages')).map(({ metadata }) => metadata.name);
      return names.find((name) => name.startsWith('given-copy-'));
    });
    await underWay(copy);
    await cluster.powerCut(here, async () => {
      await kubectl.untilSaid('diskimage', copy, `node ${here}`);
      expect(await cluster.onNode(there, 'ls /var/lib/lamina/layers')).toBe('');
    });
    await kubectl.untilObject('node', here, isReady, 240_000);
    await untilServing(kubectl, cluster.workers);
    await kubectl.run(['wait', 'diskimage/given', '--for=condition=Copied', '--timeout=240s'], { timeoutMs: 250_000 });
    const [begin] = await layersSent(kubectl, here);
    expect(begin?.from).toBeGreaterThan(0);
    expect(await digestOfHeir(kubectl, 'given', 400 * MiB, { node: there })).toBe(`sha256:${digest}`);
    await kubectl.remove('diskimage', 'given');
  });
});
