import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { fieldManagers } from '../../src/api/names.ts';
import { diskImages } from '../../src/api/objects.ts';
import { parseQuantity } from '../../src/lib/quantity.ts';
import { condition, CrdScene, type Custom, refusalOf } from '../crd-scene.ts';
import { findApiServer } from '../kube-api-server.ts';

const found = await findApiServer();
let scene: CrdScene;

beforeAll(async () => {
  if ('missing' in found) return;
  scene = await CrdScene.start(found);
}, 240_000);
afterAll(() => scene?.server.stop());

test('the API server that these tests need is there', (context) => {
  if ('missing' in found) return context.skip(found.missing);
  expect(scene.installed.length).toBeGreaterThan(0);
});

/** Where there is no API server, the test above says so for all of them. */
const suite = 'missing' in found ? () => {} : describe;

suite('of a DiskImage that there is, the API server', () => {
  const blank = 'spec: {size: 10Gi, clusterSize: 64Ki}';
  const sealed =
    'spec: {size: 2Gi, nodes: [a, b], nodeSelector: {a: b}, source: {type: http, http: {url: "http://x/y"}}}';

  it.each([
    ['a bigger size', blank, 'spec: {size: 11Gi}'],
    ['the same size in other words', blank, 'spec: {size: 10240Mi}'],
    ['the same size as a number', 'spec: {size: 1.5Gi}', 'spec: {size: 1610612736}'],
    ['the same number as a quantity', 'spec: {size: 1610612736}', 'spec: {size: 1.5Gi}'],
    ['a bigger number', 'spec: {size: 2097152}', 'spec: {size: 2097153}'],
    ['a size of its own, for a copy', 'spec: {source: {type: diskImage, diskImage: {name: a}}}', 'spec: {size: 1Gi}'],
    ['the node that was open', blank, 'spec: {nodeName: worker-1}'],
    ['live snapshots', blank, 'spec: {liveSnapshots: true}'],
    ['labels', blank, 'metadata: {labels: {a: b}}'],
    ['copies, and fewer of them', sealed, 'spec: {nodes: [b], nodeSelector: null}'],
    ['that a sealed image is sealed', sealed, 'spec: {sealed: true}'],
    ['that an open one is open', blank, 'spec: {sealed: false}'],
    ['the size of a sealed image in other words', sealed, 'spec: {size: 2048Mi}'],
  ])('takes %s', async (_, before, change) => {
    const { status, body } = await scene.patch(await scene.created('DiskImage', before), change);
    expect(body).not.toHaveProperty('message');
    expect(status).toBe(200);
  });

  it.each([
    [
      'no size at all',
      'spec: {size: 1Gi, source: {type: diskImage, diskImage: {name: a}}}',
      'spec: {size: null}',
      'size cannot be taken away',
    ],
    ['a size that is none', blank, 'spec: {size: big}', 'size is not a quantity'],
    ['another format', blank, 'spec: {format: raw, clusterSize: null}', 'format cannot be changed'],
    ['another preallocation', blank, 'spec: {preallocation: full}', 'preallocation cannot be changed'],
    ['another pool', blank, 'spec: {pool: fast}', 'pool cannot be changed'],
    ['another cluster size', blank, 'spec: {clusterSize: 2Mi}', 'clusterSize cannot be changed'],
    ['no cluster size', blank, 'spec: {clusterSize: null}', 'clusterSize cannot be changed'],
    [
      'another source',
      sealed,
      'spec: {source: {http: {checksum: null, url: "http://x/z"}}}',
      'source cannot be changed',
    ],
    ['a sealed image opened', sealed, 'spec: {sealed: false}', 'sealed cannot be changed'],
    ['an open disk sealed', blank, 'spec: {sealed: true}', 'sealed cannot be changed'],
    ['a sealed image grown', sealed, 'spec: {size: 3Gi}', 'size of a sealed DiskImage cannot be changed'],
    ['a sealed image made smaller', sealed, 'spec: {size: 1Gi}', 'size of a sealed DiskImage cannot be changed'],
    [
      'a size for a sealed image that had none',
      'spec: {source: {type: volumeSnapshot, volumeSnapshot: {name: m}}}',
      'spec: {size: 1Gi}',
      'size of a sealed DiskImage cannot be changed',
    ],
    ['copies of an open disk', blank, 'spec: {nodes: [b]}', 'nodes is for sealed DiskImages only'],
    ['a source', blank, 'spec: {source: {type: diskImage, diskImage: {name: a}}}', 'source cannot be changed'],
    [
      'another node',
      'spec: {size: 1Gi, nodeName: worker-1}',
      'spec: {nodeName: worker-2}',
      'nodeName cannot be changed',
    ],
    ['no node', 'spec: {size: 1Gi, nodeName: worker-1}', 'spec: {nodeName: null}', 'nodeName cannot be changed'],
  ])('refuses %s', async (_, before, change, sentence) => {
    expect(refusalOf(await scene.patch(await scene.created('DiskImage', before), change))).toContain(sentence);
  });

  it('refuses another disk of a DiskSnapshot', async () => {
    const snapshot = await scene.created('DiskSnapshot', 'spec: {diskImageName: a}');
    const message = refusalOf(await scene.patch(snapshot, 'spec: {diskImageName: b}'));
    expect(message).toContain('diskImageName cannot be changed');
  });
});

suite('the size of a DiskImage', () => {
  const made = { diskId: 'a', virtualSize: '10Gi' };
  const wanted = 'spec: {size: 20Gi}';
  const copy = 'spec: {source: {type: diskImage, diskImage: {name: a}}}';

  async function imageWith(status: object, spec: string): Promise<Custom> {
    const image = await scene.created('DiskImage', spec);
    const answer = await scene.report(image, fieldManagers.node, status);
    expect(answer.status).toBe(200);
    return image;
  }

  it.each([
    ['a growth that found no room is withdrawn', made, wanted, '10Gi'],
    ['a growth that found no room is asked for again, smaller', made, wanted, '12Gi'],
    ['it is lowered in other words, as far as the disk', made, wanted, '10240Mi'],
    ['it is lowered to the number of bytes that the disk has', made, wanted, '10737418240'],
    ['the disk is not made yet', { conditions: [condition('Ready', 'False', 'PoolFull')] }, wanted, '1Gi'],
    ['nothing is known of the disk', {}, wanted, '1Gi'],
    ['the disk has become bigger than it was asked to be, and it stays below that', made, 'spec: {size: 5Gi}', '7Gi'],
    ['the disk was asked to be that from the start', made, 'spec: {size: 5Gi}', '5120Mi'],
    ['a copy had none of its own, and gets that of the disk', made, copy, '10Gi'],
    ['a copy had none of its own, and is to grow', made, copy, '11Gi'],
    ['a copy is not made yet', {}, copy, '1Gi'],
  ])('can be changed where %s', async (_, status, spec, size) => {
    const { body } = await scene.patch(await imageWith(status, spec), `spec: {size: ${size}}`);
    expect(body).not.toHaveProperty('message');
    expect(diskImages.parse(body).spec.size).toBe(parseQuantity(size));
  });

  it.each([
    ['it is less than the disk has', made, wanted, '9Gi'],
    ['it is less than the disk has, by a block', made, wanted, '10737414144'],
    ['the disk never was that small', made, 'spec: {size: 10Gi}', '9Gi'],
    ['it is a number less than the disk has', { diskId: 'a', virtualSize: '2Mi' }, 'spec: {size: 2097152}', '1048576'],
    ['the disk has become bigger than it was asked to be', made, 'spec: {size: 5Gi}', '4Gi'],
    ['a copy has more', made, copy, '9Gi'],
    ['the disk is there, and nobody knows what it has', { diskId: 'a' }, wanted, '19Gi'],
  ])('cannot be changed where %s', async (_, status, spec, size) => {
    const message = refusalOf(await scene.patch(await imageWith(status, spec), `spec: {size: ${size}}`));
    expect(message).toContain('spec.size: Invalid value');
    expect(message).toContain('size cannot be less than what the disk has, which status.virtualSize says');
  });

  it('does not keep the node from reporting what is, smaller or bigger', async () => {
    const image = await imageWith(made, 'spec: {size: 5Gi}');
    for (const virtualSize of ['12Gi', '1Gi']) {
      expect((await scene.report(image, fieldManagers.node, { ...made, virtualSize })).status).toBe(200);
    }
  });
});
