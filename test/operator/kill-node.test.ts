import path from 'node:path';
import { expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { listSteps } from '../../src/lib/checkpoint.ts';
import { nodeSteps } from '../../src/reconcile/node/node-steps.ts';
import { storeSteps } from '../../src/store/steps.ts';
import type { Volume } from '../cluster/kinds.ts';
import { until } from '../cluster/until.ts';
import { Ledger } from '../ledger.ts';
import { Killer } from './killer.ts';
import { stories } from './stories.ts';

/** Compaction runs by itself and is killed in the tests of the store, as is all that belongs to calls of kubelet. */
const { compact: _, ...killed } = { ...storeSteps, ...nodeSteps };
/** What needs most lives at the end. */
const rare = ['copy-snapshot', 'disk-made', 'snapshot-made'];

stories('killed with -9 at one step after the other, the node plugin', (scene) => {
  const node = 'worker-b';

  /** As kubelet, which tries again. */
  async function again<T>(what: string, work: () => Promise<T>): Promise<T> {
    let reason = '';
    const attempt = async () => {
      try {
        return { value: await work() };
      } catch (error) {
        reason = String(error);
        return undefined;
      }
    };
    return (await until(what, attempt, { more: () => reason })).value;
  }

  async function read(volume: Volume, ledger: Ledger, present: string[], absent: string[] = []): Promise<void> {
    const { kubelet } = scene();
    const mounted = await again('mount', () => kubelet(node).mount(volume));
    expect(ledger.differences(mounted, present, absent)).toEqual([]);
    await again('unmount', () => kubelet(node).unmount(volume));
  }

  /** A volume is made, snapshotted while it is in use, restored, cloned and grown, and all are deleted. */
  async function live(storageClassName: 'thin' | 'raw'): Promise<void> {
    const { kube, user, kubelet } = scene();
    const ledger = new Ledger();
    const { volume } = await user.claimWithPod({ name: 'first', storageClassName, node });
    const mounted = await again('mount', () => kubelet(node).mount(volume));
    ledger.write(path.join(mounted, 'before'), MiB);
    await user.snapshot('taken', 'first');
    ledger.write(path.join(mounted, 'after'), MiB);
    const fromSnapshot = { kind: 'VolumeSnapshot', name: 'taken' } as const;
    const restored = await user.claimWithPod({ name: 'restored', storageClassName, node, dataSource: fromSnapshot });
    await read(restored.volume, ledger, ['before'], ['after']);
    const fromVolume = { kind: 'PersistentVolumeClaim', name: 'first' } as const;
    const clone = await user.claimWithPod({ name: 'clone', storageClassName, node, dataSource: fromVolume });
    await again('unmount', () => kubelet(node).unmount(volume));
    await user.grow('first', '96Mi');
    const size = async () => (await kube.volumes.get(volume.metadata))?.spec.capacity.storage;
    await expect.poll(size, { timeout: 40_000 }).toBe('96Mi');
    await user.remove('snapshots', 'taken');
    await user.gone('snapshots', 'taken');
    await read(volume, ledger, ['before', 'after']);
    await read(clone.volume, ledger, ['before', 'after']);
    const claims = ['first', 'restored', 'clone'];
    await user.remove('pods', ...claims);
    await user.remove('claims', ...claims);
    for (const name of claims) await user.gone('claims', name);
    await expect.poll(() => kube.diskImages.list(), { timeout: 40_000 }).toEqual([]);
  }

  it('answers every wish in the end, and loses nothing', async () => {
    const { cluster } = scene();
    const steps = listSteps(killed).toSorted((a, b) => rankOf(a) - rankOf(b));
    const killer = new Killer(cluster.workerB.plugin, steps);
    for (let lives = 0; killer.pending.length > 0 && lives < 16; lives++) {
      await live(killer.pending[0]?.startsWith('copy-snapshot') ? 'raw' : 'thin');
    }
    await killer.end();
    expect(killer.pending).toEqual([]);
  }, 900_000);
});

function rankOf(step: string): number {
  return rare.findIndex((name) => step.includes(name));
}
