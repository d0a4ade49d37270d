import { execa } from 'execa';
import { expect, it } from 'vitest';
import { untilServing } from './installation.ts';
import { isReady } from './kubectl.ts';
import { claim, pod } from './objects.ts';
import { stories } from './stories.ts';
import { expectWritten, progressOf, startWriter, writerScript } from './writer.ts';

stories('a node that loses its power', (scene) => {
  it('has all volumes back with what was flushed to them, and takes new ones', async () => {
    const { kubectl, cluster } = scene();
    const [node] = cluster.workers;
    const names = ['qcow2', 'raw'];
    for (const [name, storageClassName] of [
      ['qcow2', 'lamina'],
      ['raw', 'lamina-raw'],
    ] as const) {
      await startWriter(kubectl, { name, node, storageClassName });
    }
    const done = new Map<string, number>();
    for (const name of names) done.set(name, await progressOf(kubectl, name));
    const address = () =>
      execa('docker', ['inspect', '--format', '{{.NetworkSettings.Networks.kind.IPAddress}}', node]);
    const before = (await address()).stdout;
    await cluster.powerCut(node);
    expect((await address()).stdout).toBe(before);

    await kubectl.untilObject('node', node, isReady, 240_000);
    await untilServing(kubectl, cluster.workers);
    for (const name of names) {
      await kubectl.remove('pod', name);
      await kubectl.apply(pod({ name, claim: name, script: writerScript }));
      await kubectl.untilReady(name);
      await expectWritten(kubectl, name, done.get(name) ?? Number.NaN);
      await progressOf(kubectl, name);
    }
    await kubectl.apply(claim({ name: 'new' }), pod({ name: 'new', claim: 'new', node }));
    await kubectl.untilReady('new');
  }, 600_000);
});
