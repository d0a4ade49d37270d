import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest';
import { Cluster } from '../cluster/cluster.ts';
import { Kubelet } from '../cluster/kubelet.ts';
import { findTestbed } from '../cluster/testbed.ts';
import { User } from '../cluster/user.ts';

/** What a story has at hand. */
export interface Scene {
  cluster: Cluster;
  kube: Cluster['kube'];
  user: User;
  /** kubelet on the node of that name. */
  kubelet: (node: string) => Kubelet;
}

/** Starting everything. */
const startTimeoutMs = 240_000;
/** Everything that is deleted goes; with a volume that nobody knows of, only after the controller's grace time. */
const goneTimeoutMs = 120_000;

/**
 * Stories that are told on the one cluster of the tier. After the last of them nothing may be left of any; a story that
 * failed leaves what there is to be looked at, and the next file gets a new cluster.
 */
export function stories(title: string, tell: (scene: () => Scene) => void): void {
  const testbed = findTestbed();
  const place = inject('cluster');
  // oxlint-disable-next-line vitest/valid-title
  describe(title, () => {
    // oxlint-disable-next-line vitest/no-conditional-tests
    if ('missing' in testbed || place === null) {
      it('needs a cluster', (context) => context.skip('missing' in testbed ? testbed.missing : 'none was set up'));
      return;
    }
    let scene: Scene | undefined;
    const kubelets = new Map<string, Kubelet>();
    let failed = false;
    beforeAll(async () => {
      const cluster = await cleanCluster({ testbed, ...place });
      const kubelet = (name: string): Kubelet => {
        const known = kubelets.get(name) ?? new Kubelet(cluster.simulatedNode(name));
        kubelets.set(name, known);
        return known;
      };
      scene = { cluster, kube: cluster.kube, user: new User(cluster.kube), kubelet };
    }, startTimeoutMs);
    afterEach(({ task }) => {
      failed ||= task.result?.state === 'fail';
    });
    afterAll(() => {
      for (const kubelet of kubelets.values()) kubelet.close();
      scene?.cluster.close();
    });
    const told = (): Scene => {
      if (!scene) throw new Error('the cluster is not started yet');
      return scene;
    };
    tell(told);
    it('leaves nothing behind', { timeout: 2 * goneTimeoutMs }, async (context) => {
      if (failed) return context.skip('a story before it has failed');
      const left = () => told().cluster.leftovers();
      await expect.poll(left, { timeout: goneTimeoutMs, interval: 200 }).toEqual([]);
    });
  });
}

async function cleanCluster(options: Parameters<typeof Cluster.start>[0]): Promise<Cluster> {
  const cluster = await Cluster.start(options);
  if ((await cluster.leftovers()).length === 0) return cluster;
  cluster.close();
  await Cluster.destroy(options);
  return Cluster.start(options);
}
