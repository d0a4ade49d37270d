import { expect, it } from 'vitest';
import { claim, statefulSet } from './objects.ts';
import { stories } from './stories.ts';

const replicas = 3;
const script = 'hostname >>/data/name; sync; sleep infinity';

stories('a StatefulSet', (scene) => {
  const names = Array.from({ length: replicas }, (_, index) => `set-${index}`);

  it('has a volume for each replica, over the nodes, and each finds its own again', async () => {
    const { kubectl, cluster } = scene();
    await kubectl.apply(statefulSet({ name: 'set', replicas, script, claim: claim({ name: 'data' }) }));
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
