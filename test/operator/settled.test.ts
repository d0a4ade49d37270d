import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { stories } from './stories.ts';

stories('a settled cluster', (scene) => {
  /** How often objects were changed within some seconds, by verb and resource. */
  async function writtenIn(seconds: number): Promise<Record<string, number>> {
    const { kube } = scene();
    const before = await kube.writes();
    await delay(seconds * 1000);
    const changes = [...(await kube.writes())].map(([what, count]) => [what, count - (before.get(what) ?? 0)] as const);
    return Object.fromEntries(changes.filter(([, count]) => count !== 0));
  }

  it('is written to by nobody, but for the leases by which all show that they are alive', async () => {
    const { user, kubelet } = scene();
    const { volume, node } = await user.claimWithPod({ name: 'quiet' });
    await kubelet(node).mount(volume);
    await user.snapshot('taken', 'quiet');
    await user.declareDisk('declared', { size: '1Gi' });
    await user.diskWith('declared', 'Ready');
    // What the file system on the volume wrote right after it was mounted is told once, by the next look at the disk.
    const lookSeconds = 60;
    await expect.poll(() => writtenIn(lookSeconds + 5), { timeout: 3 * lookSeconds * 1000 }).toEqual({});
    await kubelet(node).unmount(volume);
    await user.remove('pods', 'quiet');
    await user.remove('claims', 'quiet');
    await user.remove('snapshots', 'taken');
    await user.remove('diskImages', 'declared');
  }, 480_000);
});
