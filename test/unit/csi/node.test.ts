import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  type NodePublishVolumeRequest,
  NodeServiceCapability_RPC_Type as Rpc,
  VolumeCapability_AccessMode_Mode as Mode,
  VolumeHealthErrorType,
  VolumeUsage_Unit as Unit,
} from '../../../src/gen/csi.ts';
import { GiB } from '../../../src/lib/bytes.ts';
import { type Access, type AccessMode, capability } from '../../csi-client.ts';
import { failureOf, type FakeCsi, startFakeCsi } from '../../fakes/csi.ts';

const mount: Access = { kind: 'mount' };

async function stage(csi: FakeCsi, access: Access = mount, mode?: AccessMode): Promise<string> {
  await csi.client.createVolume({ name: 'pvc-1', sizeBytes: GiB, access });
  const stagingTargetPath = `${csi.directory}/staging`;
  await csi.client.node.nodeStageVolume({
    volumeId: 'pvc-1',
    stagingTargetPath,
    volumeCapability: capability(access, mode),
  });
  return stagingTargetPath;
}

function publish(csi: FakeCsi, request: Partial<NodePublishVolumeRequest> = {}) {
  return csi.client.node.nodePublishVolume({
    volumeId: 'pvc-1',
    stagingTargetPath: `${csi.directory}/staging`,
    targetPath: `${csi.directory}/target`,
    volumeCapability: capability(mount),
    ...request,
  });
}

describe('NodeGetCapabilities', () => {
  it('lists what is served', async () => {
    await using csi = await startFakeCsi();
    const { capabilities } = await csi.client.node.nodeGetCapabilities();
    expect(capabilities.map(({ type }) => type?.value.type)).toEqual([
      Rpc.STAGE_UNSTAGE_VOLUME,
      Rpc.GET_VOLUME_STATS,
      Rpc.EXPAND_VOLUME,
      Rpc.SINGLE_NODE_MULTI_WRITER,
      Rpc.GET_VOLUME_HEALTH,
    ]);
  });
});

describe('NodeGetInfo', () => {
  it('names the node as topology does', async () => {
    await using csi = await startFakeCsi();
    expect(await csi.client.node.nodeGetInfo()).toEqual({
      nodeId: 'node-1',
      maxVolumesPerNode: 0n,
      accessibleTopology: { segments: { 'topology.lamina.storage/node': 'node-1' } },
    });
  });
});

describe('NodeStageVolume', () => {
  it('passes file system and mount flags on, and leaves the choice of file system to the node', async () => {
    await using csi = await startFakeCsi();
    await stage(csi, { kind: 'mount', fsType: 'xfs', mountFlags: ['noatime', 'nodev'] });
    expect(csi.node.staged.get('pvc-1')).toEqual({
      diskId: 'pvc-1',
      stagingPath: `${csi.directory}/staging`,
      access: { kind: 'mount', fsType: 'xfs', mountFlags: ['noatime', 'nodev'] },
    });
    await using other = await startFakeCsi();
    await stage(other);
    expect(other.node.staged.get('pvc-1')?.access).toEqual({ kind: 'mount', fsType: null, mountFlags: [] });
  });

  it.each([
    ['no volume id', { volumeId: '' }, 'INVALID_ARGUMENT'],
    ['no staging path', { stagingTargetPath: '' }, 'INVALID_ARGUMENT'],
    ['a relative staging path', { stagingTargetPath: 'staging' }, 'INVALID_ARGUMENT'],
    ['a NUL in the staging path', { stagingTargetPath: '/a\0b' }, 'INVALID_ARGUMENT'],
    ['no capability', { volumeCapability: undefined }, 'INVALID_ARGUMENT'],
    ['no access mode', { volumeCapability: { ...capability(mount), accessMode: undefined } }, 'INVALID_ARGUMENT'],
    [
      'an access mode for many nodes',
      { volumeCapability: capability(mount, Mode.MULTI_NODE_MULTI_WRITER) },
      'FAILED_PRECONDITION',
    ],
    [
      'an unknown file system',
      { volumeCapability: capability({ kind: 'mount', fsType: 'ntfs' }) },
      'FAILED_PRECONDITION',
    ],
    [
      'too many mount flags',
      { volumeCapability: capability({ kind: 'mount', mountFlags: ['x'.repeat(5000)] }) },
      'INVALID_ARGUMENT',
    ],
    ['a volume that is not there', {}, 'NOT_FOUND'],
  ])('with %s is refused', async (_, request, code) => {
    await using csi = await startFakeCsi();
    const base = { volumeId: 'pvc-1', stagingTargetPath: '/staging', volumeCapability: capability(mount) };
    expect(await failureOf(csi.client.node.nodeStageVolume({ ...base, ...request }))).toMatch(new RegExp(`^${code}`));
  });

  it('takes long paths', async () => {
    await using csi = await startFakeCsi();
    await csi.client.createVolume({ name: 'pvc-1', sizeBytes: GiB });
    const stagingTargetPath = `/${'long/'.repeat(200)}`;
    await csi.client.node.nodeStageVolume({
      volumeId: 'pvc-1',
      stagingTargetPath,
      volumeCapability: capability(mount),
    });
    expect(csi.node.staged.get('pvc-1')?.stagingPath).toBe(stagingTargetPath);
  });

  it('that is done twice is done; in another way it is ALREADY_EXISTS', async () => {
    await using csi = await startFakeCsi();
    const stagingTargetPath = await stage(csi);
    const again = (access: Access) =>
      csi.client.node.nodeStageVolume({ volumeId: 'pvc-1', stagingTargetPath, volumeCapability: capability(access) });
    await again(mount);
    expect(await failureOf(again({ kind: 'block' }))).toMatch(/^ALREADY_EXISTS: \[target-in-use\]/);
  });
});

describe('NodePublishVolume', () => {
  it('puts the volume at its target, which unpublishing removes', async () => {
    await using csi = await startFakeCsi();
    await stage(csi);
    await publish(csi);
    await publish(csi);
    expect(existsSync(`${csi.directory}/target`)).toBe(true);
    const request = { volumeId: 'pvc-1', targetPath: `${csi.directory}/target` };
    await csi.client.node.nodeUnpublishVolume(request);
    await csi.client.node.nodeUnpublishVolume(request);
    expect(existsSync(`${csi.directory}/target`)).toBe(false);
  });

  it('is read-only where request or access mode say so', async () => {
    await using csi = await startFakeCsi();
    await stage(csi, mount, Mode.SINGLE_NODE_MULTI_WRITER);
    await publish(csi, { targetPath: `${csi.directory}/a` });
    await publish(csi, { targetPath: `${csi.directory}/b`, readonly: true });
    const reader = capability(mount, Mode.SINGLE_NODE_READER_ONLY);
    await publish(csi, { targetPath: `${csi.directory}/c`, volumeCapability: reader });
    expect([...csi.node.published.values()].map(({ readOnly }) => readOnly)).toEqual([false, true, true]);
  });

  it('at a second target is refused for a single writer only', async () => {
    await using csi = await startFakeCsi();
    await stage(csi);
    const single = { volumeCapability: capability(mount, Mode.SINGLE_NODE_SINGLE_WRITER) };
    await publish(csi, single);
    await publish(csi, single);
    expect(await failureOf(publish(csi, { ...single, targetPath: `${csi.directory}/other` }))).toMatch(
      /^FAILED_PRECONDITION: \[publish-refused\]/,
    );
    expect(await failureOf(publish(csi, { ...single, readonly: true }))).toMatch(/^ALREADY_EXISTS/);
    const several = { volumeCapability: capability(mount, Mode.SINGLE_NODE_MULTI_WRITER) };
    await publish(csi, { ...several, targetPath: `${csi.directory}/other` });
  });

  it.each([
    ['no volume id', { volumeId: '' }, 'INVALID_ARGUMENT'],
    ['no target path', { targetPath: '' }, 'INVALID_ARGUMENT'],
    ['no capability', { volumeCapability: undefined }, 'INVALID_ARGUMENT'],
    ['no staging path', { stagingTargetPath: '' }, 'FAILED_PRECONDITION'],
    [
      'an access mode for many nodes',
      { volumeCapability: capability(mount, Mode.MULTI_NODE_READER_ONLY) },
      'FAILED_PRECONDITION',
    ],
    ['a volume that is not there', {}, 'NOT_FOUND'],
  ])('with %s is refused', async (_, request, code) => {
    await using csi = await startFakeCsi();
    expect(await failureOf(publish(csi, request))).toMatch(new RegExp(`^${code}`));
  });

  it('of a volume that is not staged is FAILED_PRECONDITION', async () => {
    await using csi = await startFakeCsi();
    await csi.client.createVolume({ name: 'pvc-1', sizeBytes: GiB });
    expect(await failureOf(publish(csi))).toMatch(/^FAILED_PRECONDITION: \[not-staged\]/);
  });
});

describe('NodeUnpublishVolume and NodeUnstageVolume', () => {
  it('need id and path', async () => {
    await using csi = await startFakeCsi();
    const { nodeUnpublishVolume, nodeUnstageVolume } = csi.client.node;
    expect(await failureOf(nodeUnpublishVolume({ targetPath: '/t' }))).toMatch(/^INVALID_ARGUMENT/);
    expect(await failureOf(nodeUnpublishVolume({ volumeId: 'v' }))).toMatch(/^INVALID_ARGUMENT/);
    expect(await failureOf(nodeUnstageVolume({ stagingTargetPath: '/t' }))).toMatch(/^INVALID_ARGUMENT/);
    expect(await failureOf(nodeUnstageVolume({ volumeId: 'v' }))).toMatch(/^INVALID_ARGUMENT/);
  });

  it('are done where there is nothing', async () => {
    await using csi = await startFakeCsi();
    expect(await csi.client.node.nodeUnpublishVolume({ volumeId: 'v', targetPath: '/t' })).toEqual({});
    expect(await csi.client.node.nodeUnstageVolume({ volumeId: 'v', stagingTargetPath: '/t' })).toEqual({});
  });
});

describe('NodeGetVolumeStats', () => {
  it('counts bytes and inodes of a file system, at staging and target path', async () => {
    await using csi = await startFakeCsi();
    const staging = await stage(csi);
    await publish(csi);
    for (const volumePath of [staging, `${csi.directory}/target`]) {
      expect((await csi.client.node.nodeGetVolumeStats({ volumeId: 'pvc-1', volumePath })).usage).toEqual([
        { unit: Unit.BYTES, total: BigInt(GiB), available: BigInt(GiB - 10), used: 10n },
        { unit: Unit.INODES, total: 100n, available: 99n, used: 1n },
      ]);
    }
  });

  it('knows only the size of a block volume', async () => {
    await using csi = await startFakeCsi();
    const volumePath = await stage(csi, { kind: 'block' });
    expect((await csi.client.node.nodeGetVolumeStats({ volumeId: 'pvc-1', volumePath })).usage).toEqual([
      { unit: Unit.BYTES, total: BigInt(GiB), available: 0n, used: 0n },
    ]);
  });

  it('is NOT_FOUND where the volume is not, at a relative path too', async () => {
    await using csi = await startFakeCsi();
    await stage(csi);
    const { nodeGetVolumeStats } = csi.client.node;
    expect(await failureOf(nodeGetVolumeStats({ volumeId: 'pvc-1', volumePath: '/nowhere' }))).toMatch(
      /^NOT_FOUND: \[path-not-found\]/,
    );
    expect(await failureOf(nodeGetVolumeStats({ volumeId: 'pvc-1', volumePath: 'some/path' }))).toMatch(/^NOT_FOUND/);
    expect(await failureOf(nodeGetVolumeStats({ volumeId: 'pvc-2', volumePath: '/nowhere' }))).toMatch(
      /^NOT_FOUND: \[disk-not-found\]/,
    );
    expect(await failureOf(nodeGetVolumeStats({ volumeId: 'pvc-1' }))).toMatch(/^INVALID_ARGUMENT/);
    expect(await failureOf(nodeGetVolumeStats({ volumePath: '/nowhere' }))).toMatch(/^INVALID_ARGUMENT/);
  });
});

describe('NodeExpandVolume', () => {
  const range = (requiredBytes: number) => ({ requiredBytes: BigInt(requiredBytes), limitBytes: 0n });

  it('makes what is on the volume as big as the volume', async () => {
    await using csi = await startFakeCsi();
    const volumePath = await stage(csi);
    await csi.client.controller.controllerExpandVolume({ volumeId: 'pvc-1', capacityRange: range(2 * GiB) });
    const { nodeExpandVolume } = csi.client.node;
    expect((await nodeExpandVolume({ volumeId: 'pvc-1', volumePath })).capacityBytes).toBe(2n * BigInt(GiB));
    expect(
      (await nodeExpandVolume({ volumeId: 'pvc-1', volumePath, capacityRange: range(2 * GiB) })).capacityBytes,
    ).toBe(2n * BigInt(GiB));
  });

  it('does not pretend to be bigger than the volume is', async () => {
    await using csi = await startFakeCsi();
    const volumePath = await stage(csi);
    expect(
      await failureOf(
        csi.client.node.nodeExpandVolume({ volumeId: 'pvc-1', volumePath, capacityRange: range(2 * GiB) }),
      ),
    ).toMatch(/^OUT_OF_RANGE: .*ControllerExpandVolume first/);
  });

  it('needs id and path, and the volume to be there', async () => {
    await using csi = await startFakeCsi();
    const { nodeExpandVolume } = csi.client.node;
    expect(await failureOf(nodeExpandVolume({ volumePath: '/p' }))).toMatch(/^INVALID_ARGUMENT/);
    expect(await failureOf(nodeExpandVolume({ volumeId: 'v' }))).toMatch(/^INVALID_ARGUMENT/);
    expect(await failureOf(nodeExpandVolume({ volumeId: 'v', volumePath: '/p' }))).toMatch(/^NOT_FOUND/);
  });
});

describe('NodeGetVolumeHealth', () => {
  it('says what is wrong, and nothing where nothing is', async () => {
    await using csi = await startFakeCsi();
    await stage(csi);
    const health = () => csi.client.node.nodeGetVolumeHealth({ volumeId: 'pvc-1' });
    expect((await health()).volumeHealth).toEqual({ volumeId: 'pvc-1', healthStatuses: [] });
    const disk = csi.disks.disks.get('pvc-1');
    if (disk) disk.unhealthy = 'its storage daemon is gone';
    expect((await health()).volumeHealth?.healthStatuses).toEqual([
      { status: VolumeHealthErrorType.INACCESSIBLE, reason: 'DiskUnhealthy', message: 'its storage daemon is gone' },
    ]);
    expect(await failureOf(csi.client.node.nodeGetVolumeHealth({ volumeId: 'nowhere' }))).toMatch(/^NOT_FOUND/);
  });
});
