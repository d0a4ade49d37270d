import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import type { DiskImage } from '../cluster/kube.ts';
import type { SimulatedNode } from '../cluster/simulated-node.ts';
import { stories } from './stories.ts';

stories('a declared DiskImage', (scene) => {
  const nodeOf = ({ status }: DiskImage): SimulatedNode => {
    const found = scene().cluster.nodes.find(({ name }) => name === status.nodeName);
    if (!found) throw new Error(`there is no node ${status.nodeName}`);
    return found;
  };

  /** The image file that a disk writes to. */
  function headOf(image: DiskImage): string {
    const pool = nodeOf(image).pool(image.spec.pool);
    const record = JSON.parse(readFileSync(path.join(pool, 'disks', `${image.status.diskId}.json`), 'utf8')) as {
      head: string;
    };
    const layer = path.join(pool, 'layers', record.head);
    const file = readdirSync(layer).find((name) => name.startsWith('data.'));
    return path.join(layer, file ?? 'data');
  }

  it('becomes a thin qcow2 file on its node, grows with its object and goes with it', async () => {
    const { kube, user } = scene();
    await user.declareDisk('thin', { size: '1Gi', nodeName: 'worker-a' });
    const made = await user.diskWith('thin', 'Ready');
    expect(made.status).toMatchObject({ nodeName: 'worker-a', virtualSize: GiB, format: 'qcow2', chainDepth: 1 });
    const file = headOf(made);
    expect(path.basename(file)).toBe('data.qcow2');
    expect(statSync(file).blocks * 512).toBeLessThan(2 * MiB);

    await kube.diskImages.mergePatch(user.at('thin'), { spec: { size: '2Gi' } });
    const size = async () => (await kube.diskImages.get(user.at('thin')))?.status.virtualSize;
    await expect.poll(size, { timeout: 20_000 }).toBe(2 * GiB);
    await user.remove('diskImages', 'thin');
    await user.gone('diskImages', 'thin');
    expect(existsSync(file)).toBe(false);
  });

  it('of format raw takes its space at once, and still has it when it has grown', async () => {
    const { kube, user } = scene();
    await user.declareDisk('raw', { size: '64Mi', format: 'raw', preallocation: 'falloc', nodeName: 'worker-b' });
    const made = await user.diskWith('raw', 'Ready');
    const file = headOf(made);
    expect([path.basename(file), statSync(file).size]).toEqual(['data.raw', 64 * MiB]);
    expect(statSync(file).blocks * 512).toBeGreaterThanOrEqual(64 * MiB);
    await kube.diskImages.mergePatch(user.at('raw'), { spec: { size: '96Mi' } });
    const size = async () => (await kube.diskImages.get(user.at('raw')))?.status.virtualSize;
    await expect.poll(size, { timeout: 20_000 }).toBe(96 * MiB);
    expect(statSync(file).blocks * 512).toBeGreaterThanOrEqual(96 * MiB);
    await user.remove('diskImages', 'raw');
    await user.gone('diskImages', 'raw');
  });

  it('without a node is placed where there is most room', async () => {
    const { user } = scene();
    await user.declareDisk('roomy', { size: '1Gi' });
    await user.declareDisk('huge', { size: '100Gi' });
    await user.declareDisk('second', { size: '1Gi', pool: 'second' });
    for (const name of ['roomy', 'huge', 'second']) {
      const image = await user.diskWith(name, 'Ready');
      expect([name, image.spec.nodeName]).toEqual([name, 'worker-b']);
      expect(image.status.conditions.find(({ type }) => type === 'Placed')?.reason).toBe('NodeChosen');
    }
    await user.remove('diskImages', 'roomy', 'huge', 'second');
    for (const name of ['roomy', 'huge', 'second']) await user.gone('diskImages', name);
  });

  it('starts from another one, or from a snapshot of it, on the node of that', async () => {
    const { kube, user } = scene();
    await user.declareDisk('golden', { size: '64Mi', nodeName: 'worker-a' });
    await user.diskWith('golden', 'Ready');
    const spec = { diskImageName: 'golden' };
    await kube.diskSnapshots.create({ ...{ spec }, metadata: user.at('of-golden') });
    await user.declareDisk('copy', { source: { type: 'diskImage', diskImage: { name: 'golden' } } });
    const source = { type: 'diskSnapshot', diskSnapshot: { name: 'of-golden' } };
    await user.declareDisk('restored', { source, size: '96Mi' });
    for (const [name, size] of [
      ['copy', 64 * MiB],
      ['restored', 96 * MiB],
    ] as const) {
      const image = await user.diskWith(name, 'Ready');
      expect([image.spec.nodeName, image.status.virtualSize]).toEqual(['worker-a', size]);
      expect(image.status.chainDepth).toBeGreaterThan(1);
      expect(image.status.conditions.find(({ type }) => type === 'Placed')?.reason).toBe('SourceNode');
    }
    await user.remove('diskImages', 'golden', 'copy', 'restored');
    await user.remove('diskSnapshots', 'of-golden');
    for (const name of ['golden', 'copy', 'restored']) await user.gone('diskImages', name);
  });

  it.each([
    ['of size 0', { size: '0' }, 'size must be at least 1Mi'],
    ['without a size', {}, 'size is required'],
    ['of size "much"', { size: 'much' }, 'size is not a quantity'],
    ['raw with metadata', { size: '1Gi', format: 'raw', preallocation: 'metadata' }, 'is for format qcow2 only'],
    ['of a source that is not said', { source: { type: 'diskImage' } }, 'give the member that is named as the type is'],
  ])('%s is refused by the API server with a sentence', async (_, spec, sentence) => {
    await expect(scene().user.declareDisk('bad', spec)).rejects.toThrow(sentence);
  });

  it('is not made smaller', async () => {
    const { kube, user } = scene();
    await user.declareDisk('big', { size: '1Gi', nodeName: 'worker-a' });
    await user.diskWith('big', 'Ready');
    const smaller = kube.diskImages.mergePatch(user.at('big'), { spec: { size: '512Mi' } });
    await expect(smaller).rejects.toThrow('size cannot be less than what the disk has');
    await user.remove('diskImages', 'big');
    await user.gone('diskImages', 'big');
  });

  it.each([
    [
      'of a pool that no node has',
      'Placed',
      { size: '1Gi', pool: 'nowhere' },
      'PoolNotFound',
      'no node has such a pool',
    ],
    [
      'of a pool that its node does not have',
      'Placed',
      { size: '1Gi', pool: 'second', nodeName: 'worker-a' },
      'PoolNotFound',
      'second',
    ],
    ['too big for every pool', 'Placed', { size: '8Ti' }, 'NoRoom', ''],
    ['too big for the pool of its node', 'Ready', { size: '8Ti', nodeName: 'worker-a' }, 'PoolFull', '8 TiB'],
    [
      'of a source that is not there',
      'Ready',
      { source: { type: 'diskImage', diskImage: { name: 'nobody' } }, nodeName: 'worker-a' },
      'WaitingForSource',
      'nobody',
    ],
  ] as const)('%s says so in a condition (%s), and goes at once', async (_, type, spec, reason, word) => {
    const { kube, user } = scene();
    await user.declareDisk('bad', spec);
    const image = await user.diskWith('bad', type, 'False');
    const condition = image.status.conditions.find((is) => is.type === type);
    expect(condition?.reason).toBe(reason);
    expect(condition?.message).toContain(word);
    await user.remove('diskImages', 'bad');
    await user.gone('diskImages', 'bad');
    expect(await kube.diskImages.list()).toEqual([]);
  });
});
