import { expect, it } from 'vitest';
import { annotations } from '../../src/api/names.ts';
import { GiB } from '../../src/lib/bytes.ts';
import * as kinds from '../cluster/kinds.ts';
import type { Daemon } from '../cluster/daemon.ts';
import { stories } from './stories.ts';

stories('definitions of another version', (scene) => {
  const name = 'diskimages.lamina.storage';

  /** What it says before it ends; it must. */
  async function lastWordsOf(daemon: Daemon): Promise<string> {
    await daemon.start();
    try {
      await expect.poll(() => daemon.pid, { timeout: 20_000 }).toBeUndefined();
    } finally {
      await daemon.kill9();
    }
    return daemon.lastWords(1);
  }

  it.each([
    ['older', '0'],
    ['not ours', null],
  ])('(%s) keep controller and node from starting, with a sentence that says what to do', async (_, value) => {
    const { cluster, kube } = scene();
    const definitions = kube.of(kinds.definitions);
    const wanted = (await definitions.get({ name }))?.metadata.annotations?.[annotations.schemaVersion];
    const annotate = (version: string | null | undefined) =>
      definitions.mergePatch({ name }, { metadata: { annotations: { [annotations.schemaVersion]: version } } });
    await annotate(value);
    try {
      const node = cluster.simulatedNode('worker-x', [{ name: 'default', filesystem: 'ext4', sizeBytes: GiB }]);
      for (const daemon of [cluster.controllerDaemon('controller-x'), node.plugin]) {
        const words = await lastWordsOf(daemon);
        expect(words).toContain(name);
        expect(words).toContain('crds/');
      }
    } finally {
      await annotate(wanted);
    }
  });
});
