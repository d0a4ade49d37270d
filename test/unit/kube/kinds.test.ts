import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskImages, diskPools, diskSnapshots } from '../../../src/api/objects.ts';
import { ensureObject, writeStatus } from '../../../src/kube/apply.ts';
import { ConditionReport } from '../../../src/kube/conditions.ts';
import { ResourceClient } from '../../../src/kube/client/resource-client.ts';
import { GiB } from '../../../src/lib/bytes.ts';
import { type Scene, startScene } from '../../fakes/kube-scene.ts';

let scene: Scene;
let images: ResourceClient<ReturnType<typeof diskImages.parse>>;

beforeEach(async () => {
  scene = await startScene({ types: [diskImages, diskSnapshots, diskPools] });
  images = new ResourceClient(scene.client, diskImages);
});

afterEach(() => scene.stop());

const wanted = {
  metadata: { namespace: 'media', name: 'debian' },
  spec: { size: '10Gi', source: { type: 'blank' } },
};

describe('a DiskImage', () => {
  it('is made and reported on with no write that changes nothing, however sizes are written', async () => {
    const made = await ensureObject(images, undefined, wanted, { fieldManager: 'test' });
    expect(made).toMatchObject({ spec: { size: 10 * GiB, pool: 'default' }, status: { conditions: [] } });
    const same = { ...wanted, spec: { ...wanted.spec, size: 10 * GiB, format: 'qcow2' } };
    expect(await ensureObject(images, made, same, { fieldManager: 'test' })).toBe(made);

    const report = (now: Date) => {
      const conditions = new ConditionReport(['Placed', 'Ready']);
      conditions.report('Ready', 'True', 'Made', 'The disk is there.');
      return conditions.conditions(made.status.conditions, made.metadata.generation, now);
    };
    const status = { virtualSize: '10Gi', conditions: report(new Date(0)), progress: null };
    const reported = await writeStatus(images, made, status);
    expect(reported.status).toMatchObject({
      virtualSize: 10 * GiB,
      conditions: [{ type: 'Placed' }, { type: 'Ready' }],
    });
    expect(await writeStatus(images, reported, { ...status, virtualSize: '10240Mi' })).toBe(reported);
    expect(scene.server.writes).toHaveLength(2);
  });

  it('that is not understood is said to be so once', async () => {
    scene.server.objects.create(
      { type: diskImages, namespace: 'media' },
      { apiVersion: 'lamina.storage/v1alpha1', kind: 'DiskImage', ...wanted, spec: { size: 'huge', source: {} } },
    );
    const failure: unknown = await images.get(wanted.metadata).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'resource-invalid' });
    expect((failure as Error).message.match(/is not what this version/g)).toHaveLength(1);
  });
});
