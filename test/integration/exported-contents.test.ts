import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { groupVersion } from '../../src/api/names.ts';
import { diskPools } from '../../src/api/objects.ts';
import { volumeSnapshotContentType } from '../../src/kube/kinds/core-kinds.ts';
import { volumeSnapshotType } from '../../src/kube/kinds/storage-kinds.ts';
import { ExportedContents } from '../../src/reconcile/node/exported-content.ts';
import type { ExportedResource } from '../../src/transfer/users/user-request.ts';
import { removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { NodeScene, systemNamespace } from '../node-scene.ts';

let directory: string;
let scene: NodeScene;
let contents: ExportedContents;

beforeEach(async () => {
  directory = temporaryDirectory();
  scene = await NodeScene.start(directory);
  contents = new ExportedContents({
    context: scene.context,
    diskPools: scene.clientOf(diskPools),
    volumeSnapshots: scene.clientOf(volumeSnapshotType),
    contents: scene.clientOf(volumeSnapshotContentType),
  });
});
afterEach(async () => {
  await scene.stop();
  removeDirectory(directory);
});

const find = (resource: ExportedResource, name: string, namespace = 'media') =>
  contents.find(
    { action: 'export', resource, namespace, name, format: 'raw', headOnly: false },
    AbortSignal.timeout(10_000),
  );
const pool = () => scene.detached.pool;

/** The pool of another node, and where that answers. */
async function declareRemotePool(status: object): Promise<void> {
  const name = 'default.worker-2';
  const spec = { poolName: 'default', nodeName: 'worker-2' };
  scene.declare(diskPools, '', { apiVersion: groupVersion, kind: 'DiskPool', metadata: { name }, spec });
  await scene.clientOf(diskPools).mergePatch({ name }, { status }, { subresource: 'status' });
}

describe('a DiskImage', () => {
  it('that is sealed and made is found in its pool', async () => {
    scene.declareImage('disk');
    await scene.reconcileImage('disk');
    scene.declareImage('golden', {
      size: undefined,
      sealed: true,
      source: { type: 'diskImage', diskImage: { name: 'disk' } },
    });
    await expect(find('diskimages', 'golden')).rejects.toMatchObject({ code: 'busy' });
    await scene.reconcileImage('golden');
    const id = (await scene.image('golden'))?.status.diskId;
    expect(await find('diskimages', 'golden')).toEqual({ here: { pool: pool(), kind: 'image', id } });
    // Of that name in another namespace there is none.
    await expect(find('diskimages', 'golden', 'other')).rejects.toMatchObject({ code: 'image-not-found' });
  });

  it('that may change is not exported', async () => {
    scene.declareImage('disk');
    await scene.reconcileImage('disk');
    await expect(find('diskimages', 'disk')).rejects.toMatchObject({ code: 'unsupported' });
  });

  it('of another node is said to be there, and where that answers', async () => {
    scene.declareImage('golden', { sealed: true, nodeName: 'worker-2' });
    const elsewhere = { nodeName: 'worker-2', serverName: 'worker-2.node.lamina.storage' };
    expect(await find('diskimages', 'golden')).toEqual({ elsewhere: { ...elsewhere, address: null } });
    const report = { address: '10.0.0.2:9444', serverName: 'worker-2.node.lamina.storage', certificateAuthority: 'x' };
    await declareRemotePool({ export: report });
    expect(await find('diskimages', 'golden')).toEqual({ elsewhere: { ...elsewhere, address: '10.0.0.2:9444' } });
  });

  it('whose pool is not served is told so', async () => {
    scene.declareImage('golden', { sealed: true });
    scene.state = { kind: 'starting' };
    await expect(find('diskimages', 'golden')).rejects.toMatchObject({ code: 'pool-unavailable' });
  });
});

describe('a snapshot', () => {
  const handle = 'snapshot-1';

  beforeEach(async () => {
    scene.declareImage('pvc-1', {}, { annotations: { 'lamina.storage/csi-name': 'pvc-1' } }, systemNamespace);
    await scene.reconcileImage('pvc-1', systemNamespace);
    scene.declareSnapshot(handle, 'pvc-1', systemNamespace);
  });

  /** As the snapshot controller leaves them. */
  async function bind(content: { driver?: string; handle?: string; uid?: string } = {}): Promise<void> {
    const declared = scene.declare(volumeSnapshotType, 'media', { metadata: { name: 'backup' } });
    const status = { boundVolumeSnapshotContentName: 'content-1' };
    const ref = { namespace: 'media', name: 'backup' };
    await scene.clientOf(volumeSnapshotType).mergePatch(ref, { status }, { subresource: 'status' });
    scene.declare(volumeSnapshotContentType, '', {
      metadata: { name: 'content-1' },
      spec: {
        driver: content.driver ?? 'csi.lamina.storage',
        source: { snapshotHandle: content.handle ?? handle },
        volumeSnapshotRef: { namespace: 'media', name: 'backup', uid: content.uid ?? declared.metadata.uid },
      },
    });
  }

  it('is found by its VolumeSnapshot, once it is taken', async () => {
    await bind();
    await expect(find('volumesnapshots', 'backup')).rejects.toMatchObject({ code: 'busy' });
    await scene.reconcileSnapshot(handle, systemNamespace);
    const found = { here: { pool: pool(), kind: 'snapshot', id: handle } };
    expect(await find('volumesnapshots', 'backup')).toEqual(found);
    expect(await find('disksnapshots', handle, systemNamespace)).toEqual(found);
    await expect(find('volumesnapshots', 'other')).rejects.toMatchObject({ code: 'snapshot-not-found' });
    await expect(find('disksnapshots', handle)).rejects.toMatchObject({ code: 'snapshot-not-found' });
  });

  it('is not found by a VolumeSnapshot that says it is bound to another one’s content', async () => {
    await bind({ uid: randomUUID() });
    await scene.reconcileSnapshot(handle, systemNamespace);
    await expect(find('volumesnapshots', 'backup')).rejects.toMatchObject({ code: 'busy' });
  });

  it('of another driver is not ours', async () => {
    await bind({ driver: 'other.csi.example.org' });
    await scene.reconcileSnapshot(handle, systemNamespace);
    await expect(find('volumesnapshots', 'backup')).rejects.toMatchObject({ code: 'unsupported' });
  });

  it('that stands for a DiskImage is not the way to it', async () => {
    await bind({ handle: 'diskimage/secret/debian' });
    await expect(find('volumesnapshots', 'backup')).rejects.toThrow('diskimage/secret/debian');
  });
});
