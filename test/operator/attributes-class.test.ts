import { expect, it } from 'vitest';
import { driverName } from '../../src/api/names.ts';
import * as kinds from '../cluster/kinds.ts';
import { handleOf } from '../cluster/kubelet.ts';
import { systemNamespace } from '../cluster/objects.ts';
import { stories } from './stories.ts';

stories('a VolumeAttributesClass', (scene) => {
  it('changes what can be changed of a living volume, and says what cannot', async () => {
    const { kube, user } = scene();
    const classes = kube.of(kinds.attributesClasses);
    const declare = (name: string, parameters: Record<string, string>) =>
      classes.create({ ...{ driverName, parameters }, metadata: { name } });
    await declare('live', { liveSnapshots: 'true' });
    await declare('unknown', { colour: 'green' });
    const { volume } = await user.claimWithPod({ name: 'modified', storageClassName: 'raw' });
    const image = async () => kube.diskImages.get({ namespace: systemNamespace, name: handleOf(volume) });
    expect((await image())?.spec.liveSnapshots).toBe(false);

    const setClass = (name: string) =>
      kube.claims.mergePatch(user.at('modified'), { spec: { volumeAttributesClassName: name } });
    await setClass('live');
    const current = async () => (await kube.claims.get(user.at('modified')))?.status?.currentVolumeAttributesClassName;
    await expect.poll(current, { timeout: 30_000 }).toBe('live');
    expect((await image())?.spec.liveSnapshots).toBe(true);

    await setClass('unknown');
    await expect.poll(() => user.eventsOf('modified'), { timeout: 30_000 }).toContain('colour');
    expect(await current()).toBe('live');
    await setClass('live');
    await user.remove('pods', 'modified');
    await user.remove('claims', 'modified');
    await user.gone('claims', 'modified');
    for (const name of ['live', 'unknown']) await classes.removeIfPresent({ name });
  });
});
