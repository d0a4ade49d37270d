import { afterEach, beforeEach, expect, it } from 'vitest';
import { diskImages, diskSnapshots } from '../../../../src/api/objects.ts';
import { ClusterScene, until } from '../../../fakes/cluster-scene.ts';

let scene: ClusterScene;

beforeEach(async () => {
  scene = await ClusterScene.start();
  scene.addNode({ name: 'a', thin: '100Gi', thick: '20Gi' });
});

afterEach(async () => {
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

const nodeOf = (name: string) =>
  (scene.find(diskSnapshots, name, 'media') as { spec?: { nodeName?: string } } | undefined)?.spec?.nodeName;

it('a DiskSnapshot that people declare is taken on the node of its disk, once that is known', async () => {
  scene.create(diskSnapshots, { name: 'early', namespace: 'media' }, { diskImageName: 'scratch' });
  await scene.elect();
  expect(nodeOf('early')).toBeUndefined();
  scene.create(diskImages, { name: 'scratch', namespace: 'media' }, { size: '1Gi', source: { type: 'blank' } });
  await until(() => nodeOf('early') === 'a');
  scene.create(diskSnapshots, { name: 'late', namespace: 'media' }, { diskImageName: 'scratch' });
  await until(() => nodeOf('late') === 'a');
});

interface Seen {
  status?: { conditions: { type: string; status: string; reason: string; message: string }[] };
}
const readyOf = (name: string) =>
  (scene.find(diskSnapshots, name, 'media') as Seen | undefined)?.status?.conditions.find(
    ({ type }) => type === 'Ready',
  );

it('a DiskSnapshot of a disk that is not there, or on no node, says so and is not silent for ever', async () => {
  scene.create(diskSnapshots, { name: 'typo', namespace: 'media' }, { diskImageName: 'skratch' });
  scene.create(diskSnapshots, { name: 'early', namespace: 'media' }, { diskImageName: 'huge' });
  scene.create(diskImages, { name: 'huge', namespace: 'media' }, { size: '1Ti', source: { type: 'blank' } });
  await scene.elect();
  await until(() => readyOf('typo') !== undefined && readyOf('early') !== undefined);
  expect(readyOf('typo')).toMatchObject({
    status: 'False',
    reason: 'WaitingForDisk',
    message:
      'There is no DiskImage media/skratch: declare it, or a new DiskSnapshot with the name of one that is there.',
  });
  expect(readyOf('early')?.message).toBe('The DiskImage media/huge is on no node yet; its condition Placed says why.');
  await scene.settle();
  const before = scene.writes.length;
  scene.patch(diskSnapshots, 'typo', { metadata: { labels: { touched: 'yes' } } }, { namespace: 'media' });
  await scene.settle();
  expect(scene.writes).toHaveLength(before);
  scene.create(diskImages, { name: 'skratch', namespace: 'media' }, { size: '1Gi', source: { type: 'blank' } });
  await until(() => readyOf('typo')?.status === 'True');
});

it('a DiskSnapshot of a sealed DiskImage is refused, and says what to do instead', async () => {
  const source = { type: 'http', http: { url: 'https://example.org/d' } };
  scene.create(diskImages, { name: 'golden', namespace: 'media' }, { sealed: true, source });
  scene.create(diskSnapshots, { name: 'needless', namespace: 'media' }, { diskImageName: 'golden' });
  await scene.elect();
  await until(() => readyOf('needless') !== undefined);
  expect(readyOf('needless')).toMatchObject({ reason: 'InvalidParameter' });
  expect(readyOf('needless')?.message).toContain('let disks start from it by source.diskImage');
  expect(nodeOf('needless')).toBeUndefined();
});
