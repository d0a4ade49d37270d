import { expect, it } from 'vitest';
import { systemNamespace } from '../cluster/objects.ts';
import { untilServing } from './installation.ts';
import { conditionOf, type KubernetesObject } from './kubectl.ts';
import { claim, pod } from './objects.ts';
import { stories } from './stories.ts';
import { errorsOf, expectWritten, progressOf, startWriter, writerScript } from './writer.ts';

stories('parts that are killed', (scene) => {
  /** Kills -9 what runs on a node with words on its command line. */
  async function kill9(node: string, words: string): Promise<void> {
    await scene().cluster.onNode(node, `pkill -KILL --full '${words}'`);
  }

  it.each([
    ['the controller', 'dist/main.js controller', 'controller'],
    ['the node plugin', 'dist/main.js node', 'node'],
    ['the supervisor of the engine', 'dist/main.js engine', 'engine'],
  ])('(%s) come back, and pods that write do not notice', async (_, words, component) => {
    const { kubectl, cluster } = scene();
    const name = `writes-past-${component}`;
    const node = await startWriter(kubectl, { name });
    const selector = ['-l', `app.kubernetes.io/component=${component}`];
    const parts = await kubectl.in(systemNamespace).list('pods', ...selector);
    const target = parts.find(({ spec }) => component === 'controller' || spec.nodeName === node)?.spec.nodeName;
    await kill9(target, words);
    await progressOf(kubectl, name);
    await untilServing(kubectl, cluster.workers);
    // All of it works as before: another volume is made on that node, a snapshot taken of the one in use.
    await kubectl.snapshot(`of-${name}`, name);
    await kubectl.apply(claim({ name: `after-${name}` }), pod({ name: `after-${name}`, claim: `after-${name}`, node }));
    await kubectl.untilReady(`after-${name}`);
    const done = await progressOf(kubectl, name);
    expect(await errorsOf(kubectl, name)).toBe(0);
    await expectWritten(kubectl, name, done);
  });

  it('(a storage daemon) fail their own volume only, visibly, and it is whole for the next pod', async () => {
    const { kubectl, cluster } = scene();
    const node = await startWriter(kubectl, { name: 'loses-its-daemon' });
    const volume = await kubectl.volumeOf('loses-its-daemon');
    const done = await progressOf(kubectl, 'loses-its-daemon');
    const head = await cluster.headOf(node, volume);
    await kill9(node, `qemu-storage-daemon.*${head}`);
    await expect
      .poll(() => errorsOf(kubectl, 'loses-its-daemon').catch(() => 1), { timeout: 60_000 })
      .toBeGreaterThan(0);
    const image = (isSo: (object: KubernetesObject) => boolean) =>
      kubectl.in(systemNamespace).untilObject('diskimage', volume, isSo);
    await image((found) => conditionOf(found, 'Healthy')?.reason === 'EngineDead');
    // Events are sent beside the status, one after the other.
    await expect.poll(() => kubectl.eventsOf('loses-its-daemon'), { timeout: 60_000 }).toContain('EngineDead');
    await kubectl.remove('pod', 'loses-its-daemon');
    await kubectl.apply(pod({ name: 'finds-it-again', claim: 'loses-its-daemon', script: writerScript }));
    await kubectl.untilReady('finds-it-again');
    await expectWritten(kubectl, 'finds-it-again', done);
    await progressOf(kubectl, 'finds-it-again');
    await image((found) => conditionOf(found, 'Healthy')?.status === 'True');
  });
});
