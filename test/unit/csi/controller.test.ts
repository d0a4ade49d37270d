import { describe, expect, it } from 'vitest';
import {
  ControllerServiceCapability_RPC_Type as Rpc,
  VolumeCapability_AccessMode_Mode as Mode,
} from '../../../src/gen/csi.ts';
import { GiB } from '../../../src/lib/bytes.ts';
import { capability } from '../../csi-client.ts';
import { failureOf, type FakeCsi, startFakeCsi } from '../../fakes/csi.ts';

const mount = [capability({ kind: 'mount' })];

async function makeVolumes(csi: FakeCsi, ...names: string[]): Promise<void> {
  for (const name of names) await csi.client.controller.createVolume({ name, volumeCapabilities: mount });
}

async function makeSnapshot(csi: FakeCsi, name: string, sourceVolumeId: string): Promise<void> {
  await csi.client.controller.createSnapshot({ name, sourceVolumeId });
}

describe('ControllerGetCapabilities', () => {
  it('lists what is served, and has an RPC for each', async () => {
    await using csi = await startFakeCsi();
    const { capabilities } = await csi.client.controller.controllerGetCapabilities();
    expect(
      capabilities.map(({ type }) => Object.entries(Rpc).find(([, value]) => value === type?.value.type)?.[0]),
    ).toEqual([
      'CREATE_DELETE_VOLUME',
      'LIST_VOLUMES',
      'GET_VOLUME',
      'GET_CAPACITY',
      'CLONE_VOLUME',
      'EXPAND_VOLUME',
      'MODIFY_VOLUME',
      'SINGLE_NODE_MULTI_WRITER',
      'CREATE_DELETE_SNAPSHOT',
      'LIST_SNAPSHOTS',
      'GET_SNAPSHOT',
    ]);
  });
});

describe.each([
  'deleteVolume',
  'controllerGetVolume',
  'controllerExpandVolume',
  'controllerModifyVolume',
  'validateVolumeCapabilities',
  'deleteSnapshot',
  'getSnapshot',
  'createSnapshot',
] as const)('%s', (rpc) => {
  it('needs an id', async () => {
    await using csi = await startFakeCsi();
    const call = csi.client.controller[rpc] as (request: object) => Promise<unknown>;
    expect(await failureOf(call({ name: 'x', volumeCapabilities: mount }))).toMatch(
      /^INVALID_ARGUMENT: .*_id is required/,
    );
    const tooLong = {
      volumeId: 'x'.repeat(129),
      snapshotId: 'x'.repeat(129),
      sourceVolumeId: 'x'.repeat(129),
      name: 'x',
    };
    expect(await failureOf(call(tooLong))).toMatch(/^INVALID_ARGUMENT: .*129 bytes/);
  });
});

describe('what is not there', () => {
  it.each([
    ['controllerGetVolume', {}],
    ['controllerExpandVolume', { capacityRange: { requiredBytes: 1n, limitBytes: 0n } }],
    ['controllerModifyVolume', { mutableParameters: { liveSnapshots: 'true' } }],
    ['validateVolumeCapabilities', { volumeCapabilities: mount }],
    ['createSnapshot', { name: 'snap-1', sourceVolumeId: 'nowhere' }],
    ['getSnapshot', { snapshotId: 'nowhere' }],
  ] as const)('is NOT_FOUND to %s', async (rpc, request) => {
    await using csi = await startFakeCsi();
    const call = csi.client.controller[rpc] as (request: object) => Promise<unknown>;
    expect(await failureOf(call({ volumeId: 'nowhere', ...request }))).toMatch(
      /^NOT_FOUND: \[(disk|snapshot)-not-found\]/,
    );
  });

  it('is deleted already', async () => {
    await using csi = await startFakeCsi();
    expect(await csi.client.controller.deleteVolume({ volumeId: '../../etc' })).toEqual({});
    expect(await csi.client.controller.deleteSnapshot({ snapshotId: 'nowhere' })).toEqual({});
  });
});

describe('DeleteVolume', () => {
  it('is FAILED_PRECONDITION while the volume is in use', async () => {
    await using csi = await startFakeCsi();
    await makeVolumes(csi, 'pvc-1');
    await csi.client.node.nodeStageVolume({
      volumeId: 'pvc-1',
      stagingTargetPath: '/staging',
      volumeCapability: mount[0],
    });
    expect(await failureOf(csi.client.controller.deleteVolume({ volumeId: 'pvc-1' }))).toMatch(
      /^FAILED_PRECONDITION: \[disk-in-use\]/,
    );
    await csi.client.node.nodeUnstageVolume({ volumeId: 'pvc-1', stagingTargetPath: '/staging' });
    await csi.client.controller.deleteVolume({ volumeId: 'pvc-1' });
    expect(csi.disks.disks.size).toBe(0);
  });
});

describe('ControllerExpandVolume', () => {
  const expand = (csi: FakeCsi, requiredBytes: number, limitBytes = 0) =>
    csi.client.controller.controllerExpandVolume({
      volumeId: 'pvc-1',
      capacityRange: { requiredBytes: BigInt(requiredBytes), limitBytes: BigInt(limitBytes) },
    });

  it('grows the volume, and has the node grow what is on it', async () => {
    await using csi = await startFakeCsi();
    await makeVolumes(csi, 'pvc-1');
    expect(await expand(csi, 2 * GiB)).toEqual({ capacityBytes: 2n * BigInt(GiB), nodeExpansionRequired: true });
    expect((await expand(csi, GiB)).capacityBytes).toBe(2n * BigInt(GiB));
    expect(await failureOf(expand(csi, 0, GiB))).toMatch(/^OUT_OF_RANGE/);
  });

  it('needs a range, and a capability that is served where one is given', async () => {
    await using csi = await startFakeCsi();
    await makeVolumes(csi, 'pvc-1');
    const { controllerExpandVolume } = csi.client.controller;
    expect(await failureOf(controllerExpandVolume({ volumeId: 'pvc-1' }))).toMatch(
      /^INVALID_ARGUMENT: .*capacity_range is required/,
    );
    expect(await failureOf(expand(csi, 0))).toMatch(/^INVALID_ARGUMENT/);
    const volumeCapability = capability({ kind: 'mount' }, Mode.MULTI_NODE_MULTI_WRITER);
    const capacityRange = { requiredBytes: 1n, limitBytes: 0n };
    expect(await failureOf(controllerExpandVolume({ volumeId: 'pvc-1', capacityRange, volumeCapability }))).toMatch(
      /^INVALID_ARGUMENT/,
    );
  });
});

describe('ControllerModifyVolume', () => {
  it('turns live snapshots on and off, and leaves alone what it does not mention', async () => {
    await using csi = await startFakeCsi();
    await makeVolumes(csi, 'pvc-1');
    const modify = (mutableParameters: Record<string, string>) =>
      csi.client.controller.controllerModifyVolume({ volumeId: 'pvc-1', mutableParameters });
    const options = () => csi.disks.disks.get('pvc-1')?.request.options;
    await modify({ liveSnapshots: 'true' });
    expect(options()?.liveSnapshots).toBe(true);
    await modify({});
    expect(options()?.liveSnapshots).toBe(true);
    expect(await failureOf(modify({ liveSnapshots: 'false', format: 'raw' }))).toMatch(/^INVALID_ARGUMENT: .*'format'/);
    expect(options()).toMatchObject({ liveSnapshots: true, format: 'qcow2' });
  });
});

describe('ValidateVolumeCapabilities', () => {
  const validate = async (csi: FakeCsi, request: object) => {
    await makeVolumes(csi, 'pvc-1');
    return csi.client.controller.validateVolumeCapabilities({
      volumeId: 'pvc-1',
      volumeCapabilities: mount,
      ...request,
    });
  };

  it('confirms what was asked', async () => {
    await using csi = await startFakeCsi();
    const asked = {
      volumeContext: { 'storage.kubernetes.io/csiProvisionerIdentity': 'x' },
      volumeCapabilities: mount,
      parameters: { format: 'raw' },
      mutableParameters: { liveSnapshots: 'true' },
    };
    expect(await validate(csi, asked)).toEqual({ confirmed: asked, message: '' });
  });

  it.each([
    [
      'an access mode',
      { volumeCapabilities: [capability({ kind: 'mount' }, Mode.MULTI_NODE_MULTI_WRITER)] },
      /MULTI_NODE_MULTI_WRITER/,
    ],
    ['a file system', { volumeCapabilities: [capability({ kind: 'mount', fsType: 'zfs' })] }, /'zfs'/],
    [
      'one of two capabilities',
      { volumeCapabilities: [...mount, capability({ kind: 'mount', fsType: 'zfs' })] },
      /'zfs'/,
    ],
    ['a parameter', { parameters: { nonsense: '1' } }, /'nonsense'/],
    ['a mutable parameter', { mutableParameters: { format: 'raw' } }, /'format'/],
    ['a context', { volumeContext: { share: 'x' } }, /'share'/],
  ])('does not confirm %s that is not ours, and says which', async (_, request, message) => {
    await using csi = await startFakeCsi();
    const answer = await validate(csi, request);
    expect(answer.confirmed).toBeUndefined();
    expect(answer.message).toMatch(message);
  });

  it('needs capabilities', async () => {
    await using csi = await startFakeCsi();
    expect(await failureOf(validate(csi, { volumeCapabilities: [] }))).toMatch(/^INVALID_ARGUMENT/);
  });
});

describe('ControllerGetVolume', () => {
  it('says on which node the volume is in use', async () => {
    await using csi = await startFakeCsi();
    await makeVolumes(csi, 'pvc-1');
    const get = () => csi.client.controller.controllerGetVolume({ volumeId: 'pvc-1' });
    expect((await get()).status).toEqual({ publishedNodeIds: [] });
    await csi.client.node.nodeStageVolume({
      volumeId: 'pvc-1',
      stagingTargetPath: '/staging',
      volumeCapability: mount[0],
    });
    expect((await get()).status).toEqual({ publishedNodeIds: ['node-1'] });
  });
});

describe('GetCapacity', () => {
  it('is what the pool has room for', async () => {
    await using csi = await startFakeCsi();
    expect(await csi.client.controller.getCapacity({ volumeCapabilities: mount })).toEqual({
      availableCapacity: 100n * BigInt(GiB),
      maximumVolumeSize: 100n * BigInt(GiB),
      minimumVolumeSize: 1_048_576n,
    });
  });

  it('is nothing on another node, and nothing for what no volume can do', async () => {
    await using csi = await startFakeCsi();
    const { getCapacity } = csi.client.controller;
    const accessibleTopology = { segments: { 'topology.lamina.storage/node': 'node-2' } };
    expect((await getCapacity({ accessibleTopology })).availableCapacity).toBe(0n);
    const volumeCapabilities = [capability({ kind: 'mount' }, Mode.MULTI_NODE_MULTI_WRITER)];
    expect((await getCapacity({ volumeCapabilities })).availableCapacity).toBe(0n);
    expect(await failureOf(getCapacity({ parameters: { nonsense: '1' } }))).toMatch(/^INVALID_ARGUMENT: .*'nonsense'/);
  });
});

describe('CreateSnapshot', () => {
  it('takes a snapshot that is ready, once', async () => {
    await using csi = await startFakeCsi();
    await makeVolumes(csi, 'pvc-1', 'pvc-2');
    const before = Date.now();
    const take = (sourceVolumeId: string) => csi.client.controller.createSnapshot({ name: 'snap-1', sourceVolumeId });
    const first = await take('pvc-1');
    expect(first.snapshot).toMatchObject({
      snapshotId: 'snap-1',
      sourceVolumeId: 'pvc-1',
      readyToUse: true,
      sizeBytes: BigInt(GiB),
    });
    expect(first.snapshot?.creationTime?.getTime()).toBeGreaterThanOrEqual(before);
    expect(await take('pvc-1')).toEqual(first);
    expect(await failureOf(take('pvc-2'))).toMatch(/^ALREADY_EXISTS: \[name-taken\]/);
    expect(await csi.client.controller.getSnapshot({ snapshotId: 'snap-1' })).toEqual(first);
  });

  it("knows no parameters but the snapshotter's metadata, and needs a name", async () => {
    await using csi = await startFakeCsi();
    await makeVolumes(csi, 'pvc-1');
    const take = (request: object) =>
      csi.client.controller.createSnapshot({ sourceVolumeId: 'pvc-1', name: 'snap-1', ...request });
    expect(await failureOf(take({ parameters: { freeze: 'no' } }))).toMatch(
      /^INVALID_ARGUMENT: .*not known: 'freeze'; there are none/,
    );
    expect(await failureOf(take({ name: '' }))).toMatch(/^INVALID_ARGUMENT: .*name is required/);
    const parameters = {
      'csi.storage.k8s.io/volumesnapshot/name': 'a',
      'csi.storage.k8s.io/volumesnapshot/namespace': 'b',
      'csi.storage.k8s.io/volumesnapshotcontent/name': 'c',
    };
    await take({ parameters });
  });
});

describe('lists', () => {
  it('come in pages that stay right while volumes are made and deleted between them', async () => {
    await using csi = await startFakeCsi();
    await makeVolumes(csi, 'c', 'a', 'e', 'b', 'd');
    const page = async (startingToken: string) => {
      const { entries, nextToken } = await csi.client.controller.listVolumes({ maxEntries: 2, startingToken });
      return { ids: entries.map(({ volume }) => volume?.volumeId), nextToken };
    };
    const first = await page('');
    expect(first.ids).toEqual(['a', 'b']);
    await csi.client.controller.deleteVolume({ volumeId: 'a' });
    await csi.client.controller.deleteVolume({ volumeId: 'b' });
    await makeVolumes(csi, 'aa');
    const second = await page(first.nextToken);
    expect(second.ids).toEqual(['c', 'd']);
    const third = await page(second.nextToken);
    expect(third).toEqual({ ids: ['e'], nextToken: '' });
  });

  it('give no token with the last page, even a full one', async () => {
    await using csi = await startFakeCsi();
    await makeVolumes(csi, 'a', 'b');
    expect((await csi.client.controller.listVolumes({ maxEntries: 2 })).nextToken).toBe('');
    expect((await csi.client.controller.listVolumes({ maxEntries: 0 })).entries).toHaveLength(2);
    expect((await csi.client.controller.listVolumes({ maxEntries: 1 })).nextToken).not.toBe('');
  });

  it.each(['invalid-token', '17', 'after:'])("answer the token '%s' with ABORTED", async (startingToken) => {
    await using csi = await startFakeCsi();
    expect(await failureOf(csi.client.controller.listVolumes({ startingToken }))).toMatch(
      /^ABORTED: \[list-token-invalid\]/,
    );
    expect(await failureOf(csi.client.controller.listSnapshots({ startingToken }))).toMatch(
      /^ABORTED: \[list-token-invalid\]/,
    );
  });

  it('refuse a negative number of entries', async () => {
    await using csi = await startFakeCsi();
    expect(await failureOf(csi.client.controller.listVolumes({ maxEntries: -1 }))).toMatch(/^INVALID_ARGUMENT/);
  });

  it('of snapshots can be of one volume, of one id, of both, and empty', async () => {
    await using csi = await startFakeCsi();
    await makeVolumes(csi, 'pvc-1', 'pvc-2');
    await makeSnapshot(csi, 'snap-1', 'pvc-1');
    await makeSnapshot(csi, 'snap-2', 'pvc-1');
    await makeSnapshot(csi, 'snap-3', 'pvc-2');
    const list = async (request: object) => {
      const { entries } = await csi.client.controller.listSnapshots(request);
      return entries.map(({ snapshot }) => snapshot?.snapshotId);
    };
    expect(await list({})).toEqual(['snap-1', 'snap-2', 'snap-3']);
    expect(await list({ sourceVolumeId: 'pvc-1' })).toEqual(['snap-1', 'snap-2']);
    expect(await list({ snapshotId: 'snap-3' })).toEqual(['snap-3']);
    expect(await list({ snapshotId: 'snap-3', sourceVolumeId: 'pvc-1' })).toEqual([]);
    expect(await list({ snapshotId: 'nowhere' })).toEqual([]);
    expect(await list({ sourceVolumeId: 'nowhere' })).toEqual([]);
    await csi.client.controller.deleteVolume({ volumeId: 'pvc-1' });
    expect(await list({ sourceVolumeId: 'pvc-1' })).toEqual(['snap-1', 'snap-2']);
  });
});
