import { expect, it } from 'vitest';
import { claim } from '../cluster/objects.ts';
import { stories } from './stories.ts';

stories('a generic ephemeral volume', (scene) => {
  it('comes with its pod, on the pod’s node, and goes with it', async () => {
    const { cluster, user } = scene();
    await user.pod({ name: 'worker', ephemeral: claim(user.namespace, { name: 'template' }).spec });
    const { node } = await user.bound('worker-scratch');
    expect(await user.scheduled('worker')).toBe(node);
    await user.remove('pods', 'worker');
    await expect.poll(() => cluster.leftovers(), { timeout: 60_000, interval: 200 }).toEqual([]);
  });
});
