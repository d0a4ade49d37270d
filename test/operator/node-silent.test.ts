import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { nodeLeaseName } from '../../src/api/names.ts';
import { findCondition } from '../../src/kube/conditions.ts';
import { GiB } from '../../src/lib/bytes.ts';
import * as kinds from '../cluster/kinds.ts';
import { systemNamespace } from '../cluster/objects.ts';
import { stories } from './stories.ts';

/** It is silent after four times that; and no machine is too slow to be heard in that time. */
const heartbeatSeconds = 4;

stories('a node whose plugin is silent', (scene) => {
  it('says so of its pools, gets no new disks, and is well again as soon as the plugin is', async () => {
    const { cluster, kube, user } = scene();
    await cluster.addNode('worker-s');
    const pools = [{ name: 'silent', filesystem: 'ext4', sizeBytes: GiB }] as const;
    const node = cluster.simulatedNode('worker-s', pools, ['--heartbeat', String(heartbeatSeconds)]);
    await node.start();
    const ready = async () => {
      const pool = await kube.diskPools.get({ name: 'silent.worker-s' });
      return findCondition(pool?.status.conditions ?? [], 'Ready');
    };
    const reason = async () => (await ready())?.reason;
    const lease = { namespace: systemNamespace, name: nodeLeaseName('worker-s') };
    await expect.poll(reason, { timeout: 20_000 }).toBe('Serving');
    expect(await kube.leases.get(lease)).toBeDefined();
    // As long as it is heard it stays so.
    await delay(heartbeatSeconds * 5000);
    expect(await reason()).toBe('Serving');

    await node.plugin.kill9();
    await expect.poll(reason, { timeout: heartbeatSeconds * 10_000, interval: 500 }).toBe('NodeSilent');
    expect(await ready()).toMatchObject({ status: 'Unknown', message: expect.stringContaining('worker-s since 20') });
    await user.declareDisk('waits', { size: '64Mi', pool: 'silent' });
    await user.diskWith('waits', 'Placed', 'False');
    const events = async () =>
      (await kube.events.list()).filter((event) => JSON.stringify(event).includes('"NodeSilent"')).length;
    await expect.poll(events, { timeout: 20_000 }).toBeGreaterThan(0);

    await node.start();
    await user.diskWith('waits', 'Ready');
    expect(await reason()).toBe('Serving');
    await user.remove('diskImages', 'waits');
    await user.gone('diskImages', 'waits');

    await node.destroy();
    await kube.nodes.removeIfPresent({ name: 'worker-s' });
    await kube.of(kinds.csiNodes).removeIfPresent({ name: 'worker-s' });
    await expect
      .poll(async () => await kube.leases.get(lease), { timeout: heartbeatSeconds * 10_000, interval: 500 })
      .toBeUndefined();
  }, 240_000);
});
