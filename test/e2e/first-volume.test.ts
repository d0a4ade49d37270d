import { expect, it } from 'vitest';
import { systemNamespace } from '../cluster/objects.ts';
import { release, runHelm } from './installation.ts';
import { claim, pod } from './objects.ts';
import { stories } from './stories.ts';

stories('the first volume', (scene) => {
  it('is made for a pod, written, and there again for the next pod', async () => {
    const { kubectl } = scene();
    await kubectl.apply(claim({ name: 'first' }), pod({ name: 'writer', claim: 'first' }));
    await kubectl.untilReady('writer');
    const sum = await kubectl.inPod(
      'writer',
      'head -c 64M /dev/urandom >/data/file; sync; sha256sum /data/file; stat --file-system --format %T /data',
    );
    expect(sum).toContain('ext2/ext3');
    await kubectl.remove('pod', 'writer');
    await kubectl.apply(pod({ name: 'reader', claim: 'first' }));
    await kubectl.untilReady('reader');
    expect(await kubectl.inPod('reader', 'sha256sum /data/file')).toBe(sum.split('\n')[0]);
  });

  it('is told of by events, columns and kubectl lamina', async () => {
    const { kubectl } = scene();
    const { spec } = (await kubectl.get('pvc', 'first')) ?? { spec: {} };
    const table = await kubectl.in(systemNamespace).run(['get', 'diskimage', spec.volumeName, '-o', 'wide']);
    expect(table).toContain(`${kubectl.namespace}/first`);
    expect(table.split('\n')[1]).toMatch(/^\S+ +True +Made +1Gi +qcow2 +\S+-worker2? /);
  });

  it("passes the chart's own test", async () => {
    const { kubectl } = scene();
    const output = await runHelm(kubectl, ['test', release, '--timeout', '4m']);
    expect(output.match(/Phase: +Succeeded/g)?.length).toBeGreaterThanOrEqual(3);
    const left = ['pvc', 'volumesnapshot'].map((kind) => kubectl.in(systemNamespace).list(kind));
    expect((await Promise.all(left)).flat()).toEqual([]);
  });
});
