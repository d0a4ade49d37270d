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
