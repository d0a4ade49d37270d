import { describe, expect, it } from 'vitest';
import {
  type CreateVolumeRequest,
  VolumeCapability_AccessMode_Mode as Mode,
  type VolumeCapability,
} from '../../../src/gen/csi.ts';
import { GiB } from '../../../src/lib/bytes.ts';
import { capability } from '../../csi-client.ts';
import { failureOf, type FakeCsi, startFakeCsi } from '../../fakes/csi.ts';

const mount = capability({ kind: 'mount' });
const block = capability({ kind: 'block' });
const here = { segments: { 'topology.lamina.storage/node': 'node-1' } };
const elsewhere = { segments: { 'topology.lamina.storage/node': 'node-2' } };

function create(csi: FakeCsi, request: Partial<CreateVolumeRequest> = {}) {
  return csi.client.controller.createVolume({ name: 'pvc-1', volumeCapabilities: [mount], ...request });
}

async function refusal(request: Partial<CreateVolumeRequest>): Promise<string> {
  await using csi = await startFakeCsi();
  const failure = await failureOf(create(csi, request));
  expect(csi.disks.disks.size).toBe(0);
  return failure;
}

/** What the disk service was asked for. */
async function asked(request: Partial<CreateVolumeRequest>) {
  await using csi = await startFakeCsi();
  await create(csi, request);
  return csi.disks.disks.get('pvc-1')?.request;
}

describe('CreateVolume', () => {
  it('makes a thin qcow2 disk where nothing else is said, and says where it can be used', async () => {
    await using csi = await startFakeCsi();
    const { volume } = await create(csi, { capacityRange: { requiredBytes: 5n * BigInt(GiB), limitBytes: 0n } });
    expect(volume).toEqual({
      volumeId: 'pvc-1',
      capacityBytes: 5n * BigInt(GiB),
      volumeContext: {},
      contentSource: undefined,
      accessibleTopology: [here],
    });
    expect(csi.disks.disks.get('pvc-1')?.request).toEqual({
      name: 'pvc-1',
      size: { requiredBytes: 5 * GiB, limitBytes: 0 },
      options: { format: 'qcow2', preallocation: 'off', clusterSizeBytes: null, liveSnapshots: false },
      source: null,
    });
  });

  it('makes the same volume once', async () => {
    await using csi = await startFakeCsi();
    expect(await create(csi)).toEqual(await create(csi));
    expect(await failureOf(create(csi, { parameters: { format: 'raw' } }))).toMatch(/^ALREADY_EXISTS: \[name-taken\]/);
  });

  it.each([
    ['no name', { name: '' }, /name is required/],
    ['a name of more than 128 bytes', { name: 'ü'.repeat(65) }, /130 bytes; 128 are the most/],
    ['control characters in the name', { name: 'a\u0007b' }, /control character/],
    ['a C1 control character in the name', { name: 'a\u0085b' }, /control character/],
    ['no capabilities', { volumeCapabilities: [] }, /volume_capabilities is required/],
    [
      'a capability without access type',
      { volumeCapabilities: [{ ...mount, accessType: undefined }] },
      /no access type/,
    ],
    [
      'a capability without access mode',
      { volumeCapabilities: [{ ...mount, accessMode: undefined }] },
      /no access mode/,
    ],
    ['block and mount at once', { volumeCapabilities: [mount, block] }, /not as both/],
    [
      'an unknown file system',
      { volumeCapabilities: [capability({ kind: 'mount', fsType: 'ntfs' })] },
      /'ntfs'.*ext4, xfs, btrfs/,
    ],
    ['a source of no kind', { volumeContentSource: { type: undefined } }, /no known kind/],
    ['a source without id', { volumeContentSource: source('snapshot', '') }, /snapshot_id is required/],
    ['a negative size', { capacityRange: { requiredBytes: -1n, limitBytes: 0n } }, /negative/],
    ['a limit below the size', { capacityRange: { requiredBytes: 2n, limitBytes: 1n } }, /limit_bytes 1 is less/],
  ] satisfies [string, Partial<CreateVolumeRequest>, RegExp][])('refuses %s', async (_, request, message) => {
    const failure = await refusal(request);
    expect(failure).toMatch(/^INVALID_ARGUMENT: \[invalid-parameter\]/);
    expect(failure).toMatch(message);
  });

  it('takes a name of 128 bytes, in any language, with line breaks', async () => {
    await using csi = await startFakeCsi();
    const name = `Bänd\n\t${'ü'.repeat(60)}`;
    const { volume } = await create(csi, { name });
    expect(volume?.volumeId).toBe(csi.disks.diskIdOf(name));
  });

  it.each([
    'SINGLE_NODE_WRITER',
    'SINGLE_NODE_SINGLE_WRITER',
    'SINGLE_NODE_MULTI_WRITER',
    'SINGLE_NODE_READER_ONLY',
  ] as const)('serves access mode %s', async (mode) => {
    expect(await asked({ volumeCapabilities: [capability({ kind: 'mount' }, Mode[mode])] })).toBeDefined();
  });

  it.each(['MULTI_NODE_READER_ONLY', 'MULTI_NODE_SINGLE_WRITER', 'MULTI_NODE_MULTI_WRITER'] as const)(
    'refuses access mode %s, which no disk of one node can give, even beside one that it can',
    async (mode) => {
      const volumeCapabilities: VolumeCapability[] = [mount, capability({ kind: 'mount' }, Mode[mode])];
      expect(await refusal({ volumeCapabilities })).toMatch(new RegExp(`^INVALID_ARGUMENT: .*${mode} is not served`));
    },
  );

  it('refuses a read-only block volume: a read-only mount of a device node keeps nobody from writing', async () => {
    const volumeCapabilities = [capability({ kind: 'block' }, Mode.SINGLE_NODE_READER_ONLY)];
    expect(await refusal({ volumeCapabilities })).toMatch(/^INVALID_ARGUMENT/);
  });

  it('says OUT_OF_RANGE for a size beyond what numbers can count, and takes such a limit for none', async () => {
    expect(await refusal({ capacityRange: { requiredBytes: 2n ** 53n, limitBytes: 0n } })).toMatch(/^OUT_OF_RANGE/);
    const request = await asked({ capacityRange: { requiredBytes: 1n, limitBytes: 2n ** 63n - 1n } });
    expect(request?.size).toEqual({ requiredBytes: 1, limitBytes: Number.MAX_SAFE_INTEGER });
  });

  it('passes RESOURCE_EXHAUSTED on where the pool is full, so that another node is chosen', async () => {
    await using csi = await startFakeCsi();
    csi.disks.capacityBytes = 1;
    expect(await failureOf(create(csi))).toMatch(/^RESOURCE_EXHAUSTED: \[pool-full\]/);
  });
});

describe('CreateVolume with a source', () => {
  it('restores a snapshot and clones a volume, and says of which it was made', async () => {
    await using csi = await startFakeCsi();
    await create(csi, { name: 'origin' });
    await csi.client.controller.createSnapshot({ name: 'snap', sourceVolumeId: 'origin' });
    for (const contentSource of [source('snapshot', 'snap'), source('volume', 'origin')]) {
      const { volume } = await create(csi, {
        name: `from-${contentSource.type.$case}`,
        volumeContentSource: contentSource,
      });
      expect(volume?.contentSource).toEqual(contentSource);
      const { volume: found } = await csi.client.controller.controllerGetVolume({ volumeId: volume?.volumeId ?? '' });
      expect(found).toEqual(volume);
    }
  });

  it('takes the id of a DiskImage, as long as names can be, and none that is longer', async () => {
    const id = `diskimage/${'n'.repeat(63)}/${'d'.repeat(253)}`;
    expect(await refusal({ volumeContentSource: source('snapshot', id) })).toMatch(/^NOT_FOUND/);
    expect(await refusal({ volumeContentSource: source('snapshot', `${id}d`) })).toMatch(
      /^INVALID_ARGUMENT: .*328 bytes; 327 are the most/,
    );
    expect(await refusal({ volumeContentSource: source('snapshot', 's'.repeat(129)) })).toMatch(/^INVALID_ARGUMENT/);
  });

  it('is NOT_FOUND where the source is not there', async () => {
    expect(await refusal({ volumeContentSource: source('snapshot', 'nowhere') })).toMatch(
      /^NOT_FOUND: \[snapshot-not-found\]/,
    );
    expect(await refusal({ volumeContentSource: source('volume', 'nowhere') })).toMatch(
      /^NOT_FOUND: \[disk-not-found\]/,
    );
  });
});

describe('CreateVolume with topology', () => {
  it.each([
    ['this node', [here]],
    ['this node or another', [elsewhere, here]],
    ['anywhere', []],
    ['a place that says nothing', [{ segments: {} }]],
  ])('serves %s', async (_, requisite) => {
    expect(await asked({ accessibilityRequirements: { requisite, preferred: [elsewhere] } })).toBeDefined();
  });

  it.each([
    ['another node', [elsewhere]],
    ['segments that are not ours', [{ segments: { 'topology.kubernetes.io/zone': 'a' } }]],
    ['this node in a zone we know nothing of', [{ segments: { ...here.segments, zone: 'a' } }]],
  ])('says RESOURCE_EXHAUSTED for %s', async (_, requisite) => {
    expect(await refusal({ accessibilityRequirements: { requisite, preferred: [] } })).toMatch(
      /^RESOURCE_EXHAUSTED: \[topology-unsatisfiable\] .*node 'node-1'/,
    );
  });
});

describe('StorageClass parameters', () => {
  it('set the options of the disk', async () => {
    const parameters = {
      format: 'qcow2',
      preallocation: 'metadata',
      clusterSize: '128Ki',
      liveSnapshots: 'true',
      pool: 'default',
    };
    expect((await asked({ parameters }))?.options).toEqual({
      format: 'qcow2',
      preallocation: 'metadata',
      clusterSizeBytes: 131_072,
      liveSnapshots: true,
    });
    expect((await asked({ parameters: { format: 'raw', preallocation: 'full' } }))?.options).toMatchObject({
      format: 'raw',
      preallocation: 'full',
      clusterSizeBytes: null,
    });
  });

  it.each(['4Ki', '4096', '64k', '2Mi', '2M'])('take a cluster size of %s', async (clusterSize) => {
    expect((await asked({ parameters: { clusterSize } }))?.options.clusterSizeBytes).toBeGreaterThanOrEqual(4096);
  });

  it.each(['2Ki', '4Mi', '5000', '96Ki', '-4096', '64 KiB', ''])(
    "refuse a cluster size of '%s'",
    async (clusterSize) => {
      expect(await refusal({ parameters: { clusterSize } })).toBe(
        `INVALID_ARGUMENT: [invalid-parameter] parameters: clusterSize is '${clusterSize}': expected a power of two from 4Ki to 2Mi`,
      );
    },
  );

  it('that are unknown are refused by name, all of them', async () => {
    expect(await refusal({ parameters: { fromat: 'raw', size: '1' } })).toBe(
      "INVALID_ARGUMENT: [invalid-parameter] parameters: not known: 'fromat', 'size'; known are " +
        'format, preallocation, pool, clusterSize, liveSnapshots, transfer, csi.storage.k8s.io/fstype',
    );
  });

  it.each([
    [{ format: 'vmdk' }, /format is 'vmdk'.*qcow2.*raw/],
    [{ format: 'QCOW2' }, /format is 'QCOW2'/],
    [{ preallocation: 'on' }, /preallocation is 'on'/],
    [{ format: 'raw', preallocation: 'metadata' }, /preallocation is 'metadata': .*qcow2 only/],
    [{ format: 'raw', clusterSize: '64Ki' }, /clusterSize is '64Ki': is for format qcow2 only/],
    [{ liveSnapshots: 'yes' }, /liveSnapshots is 'yes'/],
    [{ pool: 'fast' }, /pool 'fast' is not served here.*'default'/],
    [{ 'csi.storage.k8s.io/fstype': 'ntfs' }, /csi.storage.k8s.io\/fstype is 'ntfs'/],
  ] as [Record<string, string>, RegExp][])('refuse %o', async (parameters, message) => {
    const failure = await refusal({ parameters });
    expect(failure).toMatch(/^INVALID_ARGUMENT/);
    expect(failure).toMatch(message);
  });

  it("accept the provisioner's metadata about PVC and PV, which change nothing", async () => {
    const parameters = {
      'csi.storage.k8s.io/pvc/name': 'data',
      'csi.storage.k8s.io/pvc/namespace': 'shop',
      'csi.storage.k8s.io/pv/name': 'pvc-1',
    };
    expect((await asked({ parameters }))?.options).toEqual((await asked({}))?.options);
  });

  it('may name the file system, if the capability names the same', async () => {
    const parameters = { 'csi.storage.k8s.io/fstype': 'xfs' };
    expect(
      await asked({ parameters, volumeCapabilities: [capability({ kind: 'mount', fsType: 'xfs' })] }),
    ).toBeDefined();
    expect(await asked({ parameters, volumeCapabilities: [block] })).toBeDefined();
    expect(await refusal({ parameters })).toMatch(/^INVALID_ARGUMENT: .*fstype is 'xfs'/);
  });

  it('are overruled by mutable parameters, of which only liveSnapshots is known', async () => {
    const parameters = { liveSnapshots: 'false' };
    expect((await asked({ parameters, mutableParameters: { liveSnapshots: 'true' } }))?.options.liveSnapshots).toBe(
      true,
    );
    expect((await asked({ parameters: { liveSnapshots: 'true' } }))?.options.liveSnapshots).toBe(true);
    expect(await refusal({ mutableParameters: { format: 'raw' } })).toMatch(
      /^INVALID_ARGUMENT: .*mutable_parameters: not known: 'format'; known are liveSnapshots/,
    );
  });
});

function source(kind: 'snapshot' | 'volume', id: string) {
  return kind === 'snapshot'
    ? { type: { $case: 'snapshot' as const, value: { snapshotId: id } } }
    : { type: { $case: 'volume' as const, value: { volumeId: id } } };
}
