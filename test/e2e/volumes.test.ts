import { expect, it } from 'vitest';
import { systemNamespace } from '../cluster/objects.ts';
import { claim, pod } from './objects.ts';
import { stories } from './stories.ts';
import { errorsOf, expectWritten, progressOf, startWriter } from './writer.ts';

stories('volumes of all kinds', (scene) => {
  it('are cloned, and the clone and the source go their own ways', async () => {
    const { kubectl } = scene();
    await kubectl.apply(claim({ name: 'source' }), pod({ name: 'source', claim: 'source' }));
    await kubectl.untilReady('source');
    const sum = await kubectl.inPod('source', 'head -c 16M /dev/urandom >/data/file; sync; sha256sum /data/file');
    const dataSource = { kind: 'PersistentVolumeClaim', name: 'source' } as const;
    // Layers are not moved between nodes: it can be nowhere else (docs/limitations.md).
    const node = (await kubectl.get('pod', 'source'))?.spec.nodeName;
    const clone = claim({ name: 'clone', size: '2Gi', dataSource });
    await kubectl.apply(clone, pod({ name: 'clone', claim: 'clone', node }));
    await kubectl.untilReady('clone');
    await kubectl.inPod('source', 'echo changed >/data/file; sync');
    expect(await kubectl.inPod('clone', 'sha256sum /data/file')).toBe(sum);
    // The clone was asked for bigger.
    expect(Number(await kubectl.inPod('clone', 'df --output=size --block-size=1M /data | tail -1'))).toBeGreaterThan(
      1900,
    );
  });

  it('grow while a pod writes to them', { timeout: 600_000 }, async () => {
    const { kubectl } = scene();
    const size = () => kubectl.inPod('growing', 'df --output=size --block-size=1M /data | tail -1').then(Number);
    await startWriter(kubectl, { name: 'growing', storageClassName: 'lamina-xfs' });
    expect(await size()).toBeLessThan(1024);
    const bigger = { spec: { resources: { requests: { storage: '3Gi' } } } };
    await kubectl.run(['patch', 'pvc', 'growing', '--patch', JSON.stringify(bigger)]);
    // kubelet looks at what a pod in use needs once in 60 to 90 seconds.
    await expect.poll(size, { timeout: 300_000, interval: 1000 }).toBeGreaterThan(2900);
    await kubectl.untilObject('pvc', 'growing', ({ status }) => status?.capacity?.storage === '3Gi');
    const done = await progressOf(kubectl, 'growing');
    expect(await errorsOf(kubectl, 'growing')).toBe(0);
    await expectWritten(kubectl, 'growing', done);
  });

  it('are block devices where that is wanted', async () => {
    const { kubectl } = scene();
    const block = claim({ name: 'block', volumeMode: 'Block' });
    await kubectl.apply(block, pod({ name: 'block', claim: 'block', block: true }));
    await kubectl.untilReady('block');
    const write =
      'dd if=/dev/urandom of=/dev/data bs=1M count=8 oflag=direct status=none; dd if=/dev/data bs=1M count=8 status=none';
    const sum = await kubectl.inPod('block', `${write} | sha256sum; blockdev --getsize64 /dev/data`);
    expect(sum.split('\n')[1]).toBe(String(1024 ** 3));
    await kubectl.remove('pod', 'block');
    await kubectl.apply(pod({ name: 'block', claim: 'block', block: true }));
    await kubectl.untilReady('block');
    const read = await kubectl.inPod('block', 'dd if=/dev/data bs=1M count=8 iflag=direct status=none | sha256sum');
    expect(read).toBe(sum.split('\n')[0]);
  });

  it('of ReadWriteOncePod are for one pod', async () => {
    const { kubectl } = scene();
    await kubectl.apply(
      claim({ name: 'single', accessModes: ['ReadWriteOncePod'] }),
      pod({ name: 'single', claim: 'single' }),
    );
    await kubectl.untilReady('single');
    await kubectl.apply(pod({ name: 'other', claim: 'single' }));
    await expect.poll(() => kubectl.eventsOf('other'), { timeout: 60_000 }).toContain('ReadWriteOncePod');
    await kubectl.remove('pod', 'single');
    await kubectl.untilReady('other');
  });

  it('of format raw have all of their space from the start, and keep it when a file system is made', async () => {
    const { kubectl, cluster } = scene();
    await kubectl.apply(claim({ name: 'raw', storageClassName: 'lamina-raw' }), pod({ name: 'raw', claim: 'raw' }));
    await kubectl.untilReady('raw');
    await kubectl.inPod('raw', 'head -c 8M /dev/urandom >/data/file; sync; rm /data/file; sync; fstrim /data || true');
    const volume = await kubectl.volumeOf('raw');
    const { spec } = (await kubectl.get('pod', 'raw')) ?? { spec: {} };
    const [size, allocated] = (
      await cluster.onNode(
        spec.nodeName,
        `stat --format '%s %b' "/var/lib/lamina/layers/${await cluster.headOf(spec.nodeName, volume)}/data.raw" | awk '{ print $1, $2 * 512 }'`,
      )
    ).split(' ');
    expect(Number(size)).toBe(1024 ** 3);
    expect(Number(allocated)).toBeGreaterThanOrEqual(1024 ** 3);
  });

  it('are ephemeral where a pod asks for that, and change by a VolumeAttributesClass', async () => {
    const { kubectl } = scene();
    const scratch = { volumeClaimTemplate: { spec: claim({ name: 'unused' }).spec } };
    const ephemeral = pod({ name: 'ephemeral', claim: 'unused' });
    ephemeral.spec.volumes = [{ name: 'data', ephemeral: scratch } as never];
    await kubectl.apply(ephemeral);
    await kubectl.untilReady('ephemeral');
    await kubectl.inPod('ephemeral', 'echo scratch >/data/file');
    const spec = { volumeAttributesClassName: 'lamina-live-snapshots' };
    await kubectl.run(['patch', 'pvc', 'raw', '--patch', JSON.stringify({ spec })]);
    await kubectl.untilObject(
      'pvc',
      'raw',
      ({ status }) => status?.currentVolumeAttributesClassName === 'lamina-live-snapshots',
    );
    const image = await kubectl.in(systemNamespace).get('diskimage', await kubectl.volumeOf('raw'));
    expect(image?.spec.liveSnapshots).toBe(true);
    await kubectl.remove('pod', 'ephemeral');
    // Its owner is gone, which the garbage collector finds out in its own time.
    await kubectl.run(['wait', '--for=delete', 'pvc/ephemeral-data', '--timeout=60s']);
    expect(await kubectl.get('pvc', 'ephemeral-data')).toBeUndefined();
  });
});
