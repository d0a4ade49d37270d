import { expect, it } from 'vitest';
import { conditionOf } from './kubectl.ts';
import { claim, diskImage, pod } from './objects.ts';
import { stories } from './stories.ts';
import { layersSent } from './transfers.ts';

const heirs = Array.from({ length: 10 }, (_, index) => `heir-${index}`);
const sum = 'sha256sum /data/file';

stories('copies of a golden image', (scene) => {
  it('are on the nodes before volumes are, which start there without a transfer', { timeout: 600_000 }, async () => {
    const { kubectl, cluster } = scene();
    const [here, there] = cluster.workers;
    await kubectl.apply(claim({ name: 'source' }), pod({ name: 'source', claim: 'source', node: here }));
    await kubectl.untilReady('source');
    await kubectl.inPod('source', 'head -c 64M /dev/urandom >/data/file; sync');
    const content = (await kubectl.inPod('source', sum)).trim();
    await kubectl.snapshot('taken', 'source');
    // From one moment on, or what others have sent would leave the count while this goes on.
    const begin = new Date();
    const sentSince = async () => (await layersSent(kubectl, here, begin)).length;
    const before = await sentSince();
    await kubectl.apply(
      diskImage('golden', {
        nodeName: here,
        // The control plane has it, too, and no pool.
        nodeSelector: { 'kubernetes.io/os': 'linux' },
        source: { type: 'volumeSnapshot', volumeSnapshot: { name: 'taken' } },
      }),
    );
    await kubectl.run(['wait', 'diskimage/golden', '--for=condition=Copied', '--timeout=120s']);
    const golden = await kubectl.get('diskimage', 'golden');
    expect(golden?.status.copies).toMatchObject([{ nodeName: there, ready: true }]);
    const sent = await sentSince();
    expect(sent).toBeGreaterThan(before);
    for (const name of heirs)
      await kubectl.apply(claim({ name, image: 'golden' }), pod({ name, claim: name, node: there }));
    for (const name of heirs) await kubectl.untilReady(name);
    for (const name of heirs) expect((await kubectl.inPod(name, sum)).trim(), name).toBe(content);
    expect(await sentSince()).toBe(sent);
    await kubectl.remove('pod', 'source', ...heirs);
    await kubectl.remove('pvc', 'source', ...heirs);
    await kubectl.remove('volumesnapshot', 'taken');
  });

  it('follow what is asked for, and go with the image', { timeout: 300_000 }, async () => {
    const { kubectl, cluster } = scene();
    const [, there] = cluster.workers;
    const patch = async (spec: object) =>
      kubectl.run(['patch', 'diskimage', 'golden', '--type=merge', '-p', JSON.stringify({ spec })]);
    const names = async () => (await kubectl.list('diskimages')).map(({ metadata }) => metadata.name);
    await patch({ nodeSelector: { 'example.org/none': 'x' } });
    await expect.poll(names, { timeout: 60_000 }).toEqual(['golden']);
    await patch({ nodeSelector: null, nodes: [there, 'nowhere'] });
    const golden = await kubectl.untilObject(
      'diskimage',
      'golden',
      (image) => conditionOf(image, 'Copied')?.reason === 'NodeNotFound' && image.status.copies.length === 2,
    );
    expect(conditionOf(golden, 'Copied')?.message).toContain('nowhere');
    await patch({ nodes: [there] });
    await kubectl.run(['wait', 'diskimage/golden', '--for=condition=Copied', '--timeout=120s']);
    expect(await names()).toHaveLength(2);
    await kubectl.remove('diskimage', 'golden');
    await expect.poll(names, { timeout: 60_000 }).toEqual([]);
  });
});
