import { expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { capability } from '../csi-client.ts';
import { nodeTopologyKey } from '../../src/api/names.ts';
import { systemNamespace } from '../cluster/objects.ts';
import { stories } from './stories.ts';

stories('two controllers at once', (scene) => {
  it('one is elected, and the other goes on when it is killed', async () => {
    const { cluster, kube, user } = scene();
    const second = cluster.controllerDaemon('controller-2');
    await second.start();
    const other = cluster.connectController('controller-2');
    await expect.poll(() => other.isReady(), { timeout: 20_000 }).toBe(true);
    const holders = async () => {
      const leases = await kube.leases.list({ namespace: systemNamespace });
      return leases.map(({ spec }) => spec.holderIdentity).filter((name) => name?.startsWith('controller'));
    };
    expect(await holders()).toHaveLength(1);
    const [holder] = await holders();
    await user.declareDisk('placed-by-first', { size: '64Mi' });
    await user.diskWith('placed-by-first', 'Ready');

    const killed = holder === 'controller' ? cluster.controller : second;
    await killed.kill9();
    await user.declareDisk('placed-by-other', { size: '64Mi' });
    await user.diskWith('placed-by-other', 'Ready');
    expect(await holders()).toEqual([holder === 'controller' ? 'controller-2' : 'controller']);

    await cluster.controller.start();
    await second.start();
    await user.remove('diskImages', 'placed-by-first', 'placed-by-other');
    for (const name of ['placed-by-first', 'placed-by-other']) await user.gone('diskImages', name);
    other.close();
    await second.stop();
  });

  it('make one volume when both are asked for the same', async () => {
    const { cluster, kube } = scene();
    const second = cluster.controllerDaemon('controller-2');
    await second.start();
    const clients = [cluster.connectController(), cluster.connectController('controller-2')];
    for (const client of clients) await expect.poll(() => client.isReady(), { timeout: 20_000 }).toBe(true);
    const request = {
      name: 'pvc-asked-twice',
      capacityRange: { requiredBytes: BigInt(64 * MiB), limitBytes: 0n },
      volumeCapabilities: [capability({ kind: 'mount' })],
      accessibilityRequirements: {
        requisite: ['worker-a', 'worker-b'].map((name) => ({ segments: { [nodeTopologyKey]: name } })),
        preferred: [],
      },
    };
    // Both may be told to try again while one of them works.
    const create = (client: (typeof clients)[number]) => async () =>
      client.controller.createVolume(request).then(
        ({ volume }) => volume?.volumeId,
        () => undefined,
      );
    await Promise.all(
      clients.map((client) => expect.poll(create(client), { timeout: 20_000 }).toBe('pvc-asked-twice')),
    );
    expect((await kube.diskImages.list()).map(({ metadata }) => metadata.name)).toEqual(['pvc-asked-twice']);
    await Promise.all(clients.map((client) => client.deleteVolume('pvc-asked-twice')));
    for (const client of clients) client.close();
    await second.stop();
  });
});
