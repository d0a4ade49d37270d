import { expect, it } from 'vitest';
import { claim, toolsImage } from './objects.ts';
import { stories } from './stories.ts';

const replicas = 3;

const statefulSet = {
  apiVersion: 'apps/v1',
  kind: 'StatefulSet',
  metadata: { name: 'set' },
  spec: {
    replicas,
    serviceName: 'set',
    podManagementPolicy: 'Parallel',
    selector: { matchLabels: { app: 'set' } },
    template: {
      metadata: { labels: { app: 'set' } },
      spec: {
        terminationGracePeriodSeconds: 1,
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: 'kubernetes.io/hostname',
            whenUnsatisfiable: 'DoNotSchedule',
            // The control plane takes none.
            nodeTaintsPolicy: 'Honor',
            labelSelector: { matchLabels: { app: 'set' } },
          },
        ],
        containers: [
          {
            name: 'main',
            image: toolsImage,
            command: ['bash', '-euc', 'hostname >>/data/name; sync; sleep infinity'],
            volumeMounts: [{ name: 'data', mountPath: '/data' }],
          },
        ],
      },
    },
    volumeClaimTemplates: [{ metadata: { name: 'data' }, spec: claim({ name: 'data' }).spec }],
  },
};

stories('a StatefulSet', (scene) => {
  const names = Array.from({ length: replicas }, (_, index) => `set-${index}`);

  it('has a volume for each replica, over the nodes, and each finds its own again', async () => {
    const { kubectl, cluster } = scene();
    await kubectl.apply(statefulSet);
    for (const name of names) await kubectl.untilReady(name);
    const pods = await Promise.all(names.map((name) => kubectl.get('pod', name)));
    expect(new Set(pods.map((pod) => pod?.spec.nodeName))).toEqual(new Set(cluster.workers));
    await kubectl.run(['delete', 'pod', ...names, '--wait']);
    for (const name of names) {
      await kubectl.untilReady(name);
      expect(await kubectl.inPod(name, 'cat /data/name')).toBe(`${name}\n${name}`);
    }
    await kubectl.remove('statefulset', 'set');
  });
});
