import { beforeAll, expect, it } from 'vitest';
import { driverName } from '../../src/api/names.ts';
import { isReady } from './kubectl.ts';
import { claim, diskImage, pod, statefulSet } from './objects.ts';
import { stories } from './stories.ts';

const replicas = 3;

stories('what starts from a golden image', (scene) => {
  beforeAll(async () => {
    const { kubectl } = scene();
    await kubectl.apply(claim({ name: 'source' }), pod({ name: 'source', claim: 'source' }));
    await kubectl.untilReady('source');
    await kubectl.inPod('source', 'echo golden >/data/file; sync');
    const source = { type: 'persistentVolumeClaim', persistentVolumeClaim: { name: 'source' } };
    await kubectl.apply(diskImage('golden', { source }));
    await kubectl.untilObject('diskimage', 'golden', isReady);
    await kubectl.remove('pod', 'source');
    await kubectl.remove('pvc', 'source');
  }, 180_000);

  it('may be all replicas of a StatefulSet, on every node, by its template', { timeout: 300_000 }, async () => {
    const { kubectl, cluster } = scene();
    const script = 'hostname >>/data/file; sync; sleep infinity';
    await kubectl.apply(
      statefulSet({ name: 'set', replicas, script, claim: claim({ name: 'data', image: 'golden' }) }),
    );
    const names = Array.from({ length: replicas }, (_, index) => `set-${index}`);
    for (const name of names) {
      await kubectl.untilReady(name);
      expect(await kubectl.inPod(name, 'cat /data/file')).toBe(`golden\n${name}`);
    }
    const pods = await Promise.all(names.map((name) => kubectl.get('pod', name)));
    expect(new Set(pods.map((each) => each?.spec.nodeName))).toEqual(new Set(cluster.workers));
    await kubectl.remove('statefulset', 'set');
    await kubectl.remove('pvc', ...names.map((name) => `data-${name}`));
  });

  it('may be a restore of a VolumeSnapshot that stands for it, and goes without it', { timeout: 180_000 }, async () => {
    const { kubectl } = scene();
    const { namespace } = kubectl;
    const snapshotApi = 'snapshot.storage.k8s.io/v1';
    await kubectl.apply(
      {
        apiVersion: snapshotApi,
        kind: 'VolumeSnapshotContent',
        metadata: { name: 'golden' },
        spec: {
          driver: driverName,
          deletionPolicy: 'Retain',
          source: { snapshotHandle: `diskimage/${namespace}/golden` },
          volumeSnapshotRef: { name: 'golden', namespace },
        },
      },
      {
        apiVersion: snapshotApi,
        kind: 'VolumeSnapshot',
        metadata: { name: 'golden' },
        spec: { source: { volumeSnapshotContentName: 'golden' } },
      },
    );
    await kubectl.untilObject('volumesnapshot', 'golden', ({ status }) => status?.readyToUse === true);
    const dataSource = { kind: 'VolumeSnapshot', name: 'golden' } as const;
    await kubectl.apply(claim({ name: 'restored', dataSource }), pod({ name: 'restored', claim: 'restored' }));
    await kubectl.untilReady('restored');
    expect(await kubectl.inPod('restored', 'cat /data/file')).toBe('golden');
    await kubectl.remove('pod', 'restored');
    await kubectl.remove('pvc', 'restored');
    await kubectl.remove('volumesnapshot', 'golden');
    await kubectl.remove('volumesnapshotcontent', 'golden');
    expect(isReady((await kubectl.get('diskimage', 'golden')) ?? expect.fail('it is gone'))).toBe(true);
    await kubectl.remove('diskimage', 'golden');
  });
});
