import { expect, it } from 'vitest';
import { stories } from './stories.ts';

const declared = `
apiVersion: lamina.storage/v1alpha1
kind: DiskImage
metadata: { name: declared }
spec: { size: 2Gi }
`;

stories('a DiskImage that is declared with kubectl', (scene) => {
  it('becomes a file on a node, reads like a status page, grows and goes with its object', async () => {
    const { kubectl, cluster } = scene();
    await kubectl.apply(declared);
    await kubectl.run(['wait', 'diskimage/declared', '--for=condition=Ready', '--timeout=60s']);
    const { spec, status } = (await kubectl.get('diskimage', 'declared')) ?? { spec: {} };
    expect(cluster.workers).toContain(spec.nodeName);
    expect(await kubectl.run(['get', 'diskimages'])).toMatch(/declared +True +Made +2Gi +qcow2 +\S+-worker/);
    const record = `/var/lib/lamina/disks/${status?.diskId}.json`;
    expect(await cluster.onNode(spec.nodeName, `cat ${record}`)).toContain(`${kubectl.namespace}/declared`);
    await kubectl.run(['patch', 'diskimage', 'declared', '--type=merge', '--patch', '{"spec":{"size":"3Gi"}}']);
    await kubectl.untilObject('diskimage', 'declared', (image) => image.status?.virtualSize === '3Gi');
    await kubectl.remove('diskimage', 'declared');
    await expect(cluster.onNode(spec.nodeName, `test ! -e ${record}`)).resolves.toBe('');
  });

  it('is refused with a sentence where it cannot be', async () => {
    const { kubectl } = scene();
    const refused = (spec: string) => kubectl.apply(declared.replace(/spec:.*/, `spec: ${spec}`));
    await expect(refused('{ size: 0 }')).rejects.toThrow('size must be at least 1Mi');
    await expect(refused('{ size: 1Gi, format: raw, preallocation: metadata }')).rejects.toThrow(
      'is for format qcow2 only',
    );
    expect(await kubectl.run(['explain', 'diskimage.spec.preallocation'])).toContain('What a blank disk takes');
  });
});
