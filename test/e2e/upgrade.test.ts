import { execa } from 'execa';
import { expect, it } from 'vitest';
import { systemNamespace } from '../cluster/objects.ts';
import { helm, image, imageTag, untilServing } from './installation.ts';
import { stories } from './stories.ts';
import { errorsOf, expectWritten, progressOf, startWriter } from './writer.ts';

stories('an upgrade while pods write', (scene) => {
  it('replaces controller and node plugins, leaves the engines alone, and no write fails', async () => {
    const { kubectl, cluster } = scene();
    const [nodeA, nodeB] = cluster.workers;
    const writers = [
      { name: 'qcow2', node: nodeA, storageClassName: 'lamina' },
      { name: 'raw', node: nodeA, storageClassName: 'lamina-raw' },
      { name: 'xfs', node: nodeB, storageClassName: 'lamina-xfs' },
    ];
    for (const writer of writers) await startWriter(kubectl, writer);
    const engines = () => uidsOf('engine');
    const plugins = () => uidsOf('node');
    const before = { engines: await engines(), plugins: await plugins() };
    const next = `${imageTag}-next`;
    await execa('docker', ['tag', image(imageTag), image(next)]);
    await cluster.load(image(next));
    try {
      await helm(kubectl, 'upgrade', { set: [`image.tag=${next}`] });
      await untilServing(kubectl, cluster.workers);
      expect(await engines()).toEqual(before.engines);
      const replaced = await plugins();
      expect(replaced.filter((uid) => before.plugins.includes(uid))).toEqual([]);
      for (const { name } of writers) {
        const done = await progressOf(kubectl, name);
        expect([name, await errorsOf(kubectl, name)]).toEqual([name, 0]);
        await expectWritten(kubectl, name, done);
        // Raw volumes on ext4 are snapshotted while nobody uses them.
        if (name !== 'raw') await kubectl.snapshot(`of-${name}`, name);
      }
    } finally {
      await helm(kubectl, 'upgrade');
      await untilServing(kubectl, cluster.workers);
    }
  });

  async function uidsOf(component: string): Promise<string[]> {
    const pods = await scene()
      .kubectl.in(systemNamespace)
      .list('pods', '-l', `app.kubernetes.io/component=${component}`);
    return pods
      .filter(({ metadata }) => !metadata.deletionTimestamp)
      .map(({ metadata }) => metadata.uid)
      .toSorted();
  }
});
