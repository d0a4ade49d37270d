import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest';
import { systemNamespace } from '../cluster/objects.ts';
import { KindCluster } from './kind-cluster.ts';
import { Kubectl } from './kubectl.ts';
import { findMachine } from './machine.ts';
import { tracesOf } from './traces.ts';

/** What a story has at hand. */
export interface Scene {
  cluster: KindCluster;
  /** In a namespace of its own. */
  kubectl: Kubectl;
}

/** Everything that is deleted goes: pods first, then their volumes, then what the nodes have of them. */
const goneTimeoutMs = 120_000;

/**
 * Stories on the one cluster of the tier, in a namespace that goes with the last of them. Then nothing may be left of
 * any on any node.
 */
export function stories(title: string, tell: (scene: () => Scene) => void): void {
  const machine = findMachine();
  const place = inject('kind');
  // oxlint-disable-next-line vitest/valid-title
  describe(title, () => {
    // oxlint-disable-next-line vitest/no-conditional-tests
    if ('missing' in machine || place === null) {
      it('needs a cluster', (context) => context.skip('missing' in machine ? machine.missing : 'none was set up'));
      return;
    }
    const cluster = new KindCluster(place.name, place.kubeconfig);
    const namespace = `story-${title.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}`.slice(0, 50).replace(/-$/, '');
    const kubectl = new Kubectl(place.kubeconfig, namespace);
    let failed = false;
    beforeAll(() => kubectl.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } }));
    afterEach(({ task }) => {
      failed ||= task.result?.state === 'fail';
    });
    // Also of a story that failed, or all that come after it would find what it left.
    afterAll(() => kubectl.remove('namespace', namespace));
    tell(() => ({ cluster, kubectl }));
    it('says nothing again and again, and leaves nothing behind', { timeout: 4 * goneTimeoutMs }, async (context) => {
      if (failed) return context.skip('a story before it has failed');
      expect(await repeatedEvents(kubectl)).toEqual([]);
      expect(await missingRights(kubectl.in(systemNamespace))).toEqual([]);
      await kubectl.remove('namespace', namespace);
      await expect.poll(() => tracesOf(cluster, kubectl), { timeout: goneTimeoutMs, interval: 1000 }).toEqual([]);
    });
  });
}

/** What the driver or a sidecar was refused for lack of a right, in its own words. */
async function missingRights(kubectl: Kubectl): Promise<string[]> {
  const all = ['--selector=app.kubernetes.io/name=lamina', '--all-containers', '--prefix', '--tail=-1'];
  const logs = await kubectl.run(['logs', ...all, '--max-log-requests=50']);
  return logs.split('\n').filter((line) => line.includes('is forbidden: User "system:serviceaccount:'));
}

/** More than anybody says within a story who does not try the same thing in a loop. */
const often = 60;

/** What the driver has said in events far too often. */
async function repeatedEvents(kubectl: Kubectl): Promise<string[]> {
  const json = await kubectl.run(['get', 'events.events.k8s.io', '-o', 'json']);
  type Event = { reportingController: string; reason: string; note: string; series?: { count: number } };
  return (JSON.parse(json) as { items: Event[] }).items
    .filter(({ reportingController, series }) => reportingController.includes('lamina') && (series?.count ?? 0) > often)
    .map(({ reason, note, series }) => `${series?.count} times ${reason}: ${note}`);
}
