import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { status } from '@grpc/grpc-js';
import { expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { stories } from './stories.ts';

stories('a volume', (scene) => {
  it('of ReadWriteOncePod is for one pod at a time', async () => {
    const { user, kubelet } = scene();
    const { volume, node } = await user.claimWithPod({ name: 'single', accessModes: ['ReadWriteOncePod'] });
    expect(volume.spec.accessModes).toEqual(['ReadWriteOncePod']);
    await kubelet(node).mount(volume, 'first');
    await expect(kubelet(node).mount(volume, 'second')).rejects.toMatchObject({ code: status.FAILED_PRECONDITION });
    await kubelet(node).unpublish(volume, 'first');
    await kubelet(node).mount(volume, 'second');
    await kubelet(node).unmount(volume, 'second');
    await user.remove('pods', 'single');
    await user.remove('claims', 'single');
  });

  it('of ReadWriteOnce is for several pods of its node', async () => {
    const { user, kubelet } = scene();
    const { volume, node } = await user.claimWithPod({ name: 'shared' });
    const [first, second] = [await kubelet(node).mount(volume, 'first'), await kubelet(node).mount(volume, 'second')];
    writeFileSync(path.join(first, 'file'), 'of the first');
    expect(readFileSync(path.join(second, 'file'), 'utf8')).toBe('of the first');
    await kubelet(node).unmount(volume, 'first', 'second');
    await user.remove('pods', 'shared');
    await user.remove('claims', 'shared');
  });

  it('of volumeMode Block is a device that keeps its bytes', async () => {
    const { user, kubelet } = scene();
    const { volume, node } = await user.claimWithPod({ name: 'device', volumeMode: 'Block', size: '64Mi' });
    const bytes = randomBytes(2 * MiB);
    const device = await kubelet(node).mount(volume);
    expect(statSync(device).isBlockDevice()).toBe(true);
    writeFileSync(device, bytes, { flag: 'r+', flush: true });
    await kubelet(node).unmount(volume);
    expect(
      readFileSync(await kubelet(node).mount(volume))
        .subarray(0, bytes.length)
        .equals(bytes),
    ).toBe(true);
    await kubelet(node).unmount(volume);
    await user.remove('pods', 'device');
    await user.remove('claims', 'device');
  });
});
