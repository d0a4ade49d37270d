import { expect, it } from 'vitest';
import { annotations } from '../../src/api/names.ts';
import * as kinds from '../cluster/kinds.ts';
import type { Daemon } from '../cluster/daemon.ts';
import { stories } from './stories.ts';

/** On a machine that has a lot to do, starting a process and ending it take their time. */
const patience = { timeout: 60_000 };

stories('definitions of another version', (scene) => {
  const name = 'diskimages.lamina.storage';

  /** What it says before it ends; it must. */
  async function lastWordsOf(daemon: Daemon): Promise<string> {
    await daemon.start();
    try {
      await expect.poll(() => daemon.pid, patience).toBeUndefined();
    } finally {
      await daemon.kill9();
    }
    return daemon.lastWords(1);
  }

  /** Runs `work` while the definition is annotated as of another version. */
  async function withVersion(version: string | null, work: () => Promise<void>): Promise<void> {
    const definitions = scene().kube.of(kinds.definitions);
    const wanted = (await definitions.get({ name }))?.metadata.annotations?.[annotations.schemaVersion];
    const annotate = (value: string | null | undefined) =>
      definitions.mergePatch({ name }, { metadata: { annotations: { [annotations.schemaVersion]: value } } });
    await annotate(version);
    try {
      await work();
    } finally {
      await annotate(wanted);
    }
  }

  it.each([
    ['older', '0'],
    ['not ours', null],
  ])(
    '(%s) keep a controller from starting, with a sentence that says what to do',
    { timeout: 120_000 },
    async (_, version) => {
      await withVersion(version, async () => {
        const words = await lastWordsOf(scene().cluster.controllerDaemon('controller-x'));
        expect(words).toContain(name);
        expect(words).toContain('crds/');
      });
    },
  );

  it('keep a node plugin from touching anything but what is in use, until they are the right ones', {
    timeout: 240_000,
  }, async () => {
    const { cluster, user, kubelet } = scene();
    const { volume } = await user.claimWithPod({ name: 'in-use', node: 'worker-a' });
    const { plugin } = cluster.workerA;
    const csi = cluster.workerA.connect();
    try {
      await withVersion('0', async () => {
        await plugin.restart();
        await expect.poll(() => plugin.lastWords(), patience).toContain('objects are left alone');
        expect(plugin.lastWords()).toContain(name);
        await expect.poll(() => csi.isReady(), patience).toBe(false);
        await user.declareDisk('later', { size: '64Mi', nodeName: 'worker-a' });
        // As kubelet does it: the pool may still be starting.
        const isMounted = () =>
          kubelet('worker-a')
            .mount(volume)
            .then(
              () => true,
              () => false,
            );
        await expect.poll(isMounted, patience).toBe(true);
        expect((await scene().kube.diskImages.get(user.at('later')))?.status.diskId).toBeUndefined();
      });
      await user.diskWith('later', 'Ready');
      // The object can be ready a moment before the plugin is asked again.
      await expect.poll(() => csi.isReady(), patience).toBe(true);
    } finally {
      csi.close();
    }
    await kubelet('worker-a').unmount(volume);
    await user.remove('pods', 'in-use');
    await user.remove('claims', 'in-use');
    await user.remove('diskImages', 'later');
  });
});
