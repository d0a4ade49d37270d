import { expect, it } from 'vitest';
import { systemNamespace } from '../cluster/objects.ts';
import { helm, release, runHelm, untilServing } from './installation.ts';
import type { KubernetesObject } from './kubectl.ts';
import { claim, pod } from './objects.ts';
import { stories } from './stories.ts';
import { errorsOf, expectWritten, progressOf, startWriter } from './writer.ts';

/** Until the lease of the provisioner before has expired: what uninstalls takes the permission away by which it would give that back. */
const leaseTimeoutMs = 240_000;

stories('what is uninstalled and installed again', (scene) => {
  const keyOf = ({ metadata }: KubernetesObject) => `${metadata.namespace}/${metadata.name}`;

  async function diskImages(): Promise<string[]> {
    return (await scene().kubectl.list('diskimages', '--all-namespaces')).map(keyOf).toSorted();
  }

  it('takes over all volumes, those in use and those that lost their objects', { timeout: 600_000 }, async () => {
    const { kubectl, cluster } = scene();
    const [nodeA, nodeB] = cluster.workers;
    await startWriter(kubectl, { name: 'used', node: nodeA });
    await startWriter(kubectl, { name: 'idle', node: nodeB });
    const idle = await progressOf(kubectl, 'idle');
    await kubectl.snapshot('taken', 'idle');
    await kubectl.remove('pod', 'idle');
    const before = await diskImages();
    expect(before).toHaveLength(2);

    await runHelm(kubectl, ['uninstall', release, '--wait']);
    await progressOf(kubectl, 'used');
    // As whoever loses an etcd, or deletes finalizers by hand.
    for (const kind of ['diskimages', 'disksnapshots', 'diskpools']) {
      for (const { metadata } of await kubectl.list(kind, '--all-namespaces')) {
        const at = kubectl.in(metadata.namespace ?? systemNamespace);
        await at.run(['patch', kind, metadata.name, '--type=merge', '--patch', '{"metadata":{"finalizers":null}}']);
        await at.remove(kind, metadata.name);
      }
    }
    expect(await diskImages()).toEqual([]);
    await helm(kubectl, 'install');
    await untilServing(kubectl, cluster.workers);
    await expect.poll(diskImages, { timeout: 60_000 }).toEqual(before);

    const done = await progressOf(kubectl, 'used');
    expect(await errorsOf(kubectl, 'used')).toBe(0);
    await expectWritten(kubectl, 'used', done);
    await kubectl.apply(pod({ name: 'idle', claim: 'idle' }));
    await kubectl.untilReady('idle');
    await expectWritten(kubectl, 'idle', idle);
    const dataSource = { kind: 'VolumeSnapshot', name: 'taken' } as const;
    await kubectl.apply(
      claim({ name: 'restored', dataSource }),
      pod({ name: 'restored', claim: 'restored', node: nodeB }),
    );
    await kubectl.untilReady('restored', leaseTimeoutMs);
    await expectWritten(kubectl, 'restored', idle);
  });
});
