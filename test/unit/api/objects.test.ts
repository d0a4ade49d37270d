import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { sourceTypes } from '../../../src/api/disk-source.ts';
import { diskPoolName, groupVersion } from '../../../src/api/names.ts';
import {
  type DiskImageManifest,
  type DiskPoolManifest,
  type DiskSnapshotManifest,
  diskImages,
  diskPools,
  diskSnapshots,
} from '../../../src/api/objects.ts';
import { GiB, MiB } from '../../../src/lib/bytes.ts';
import { LaminaError } from '../../../src/lib/errors.ts';

const stored = {
  uid: '6a1c2a3e-8a3c-4e0e-9d6b-0f5f1f6c2b11',
  resourceVersion: '42',
  generation: 1,
  creationTimestamp: '2026-01-02T03:04:05Z',
};

const image: DiskImageManifest = {
  apiVersion: 'lamina.storage/v1alpha1',
  kind: 'DiskImage',
  metadata: { name: 'scratch', namespace: 'media', ...stored, managedFields: [{ manager: 'kubectl' }] },
  spec: { size: '1.5Gi' },
};

const withSpec = (spec: object) => ({ ...image, spec });

describe('a DiskImage', () => {
  it('has its defaults and a size in bytes once it is parsed', () => {
    const { spec, status } = diskImages.parse(image);
    expect(spec).toEqual({
      size: 1.5 * GiB,
      format: 'qcow2',
      preallocation: 'off',
      liveSnapshots: false,
      pool: 'default',
      source: { type: 'blank' },
      sealed: false,
      nodes: [],
    });
    expect(status).toEqual({ conditions: [], copies: [] });
  });

  it('may have a number as its size', () => {
    expect(diskImages.parse(withSpec({ size: 64 * MiB })).spec.size).toBe(64 * MiB);
  });

  it('is freed of metadata that nobody uses', () => {
    expect(diskImages.parse(image).metadata).toEqual({
      name: 'scratch',
      namespace: 'media',
      ...stored,
      labels: {},
      annotations: {},
      finalizers: [],
      ownerReferences: [],
    });
  });

  it.each([
    [{ type: 'diskImage', diskImage: { name: 'other', namespace: 'media' } }, false],
    [{ type: 'diskSnapshot', diskSnapshot: { name: 'monday' } }, false],
    [{ type: 'http', http: { url: 'https://images.example.org/debian.qcow2?arch=amd64' } }, true],
    [{ type: 'registry', registry: { image: 'registry.example.org/disks/debian:13' } }, true],
    [{ type: 'persistentVolumeClaim', persistentVolumeClaim: { name: 'data' } }, true],
    [{ type: 'volumeSnapshot', volumeSnapshot: { name: 'data' } }, true],
  ])('has a source with the one member that belongs to its type, and is sealed by it or not: %j', (source, sealed) => {
    expect(diskImages.parse(withSpec({ source })).spec).toMatchObject({ source, sealed });
    expect(diskImages.parse(withSpec({ source, sealed: !sealed })).spec.sealed).toBe(!sealed);
  });

  it('has a source of its own type, whatever else stands beside it', () => {
    const source = { type: 'diskImage', diskImage: { name: 'a' }, diskSnapshot: { name: 'b' } };
    const { diskSnapshot: _, ...own } = source;
    expect(diskImages.parse(withSpec({ source })).spec.source).toEqual(own);
  });

  it('has a status with sizes in bytes', () => {
    const status = { virtualSize: '10Gi', allocated: '1.38Gi', chainDepth: 2, progress: '7%' };
    expect(diskImages.parse({ ...image, status }).status).toEqual({
      ...status,
      virtualSize: 10 * GiB,
      allocated: Math.ceil(1.38 * GiB),
      conditions: [],
      copies: [],
    });
  });

  it('has copies with sizes in bytes', () => {
    const copies = [
      { nodeName: 'worker-2', ready: true, allocated: '1.5Gi' },
      { nodeName: 'worker-3', ready: false, message: 'There is no room' },
    ];
    const { status } = diskImages.parse({ ...image, status: { copies } });
    expect(status.copies).toEqual([{ ...copies[0], allocated: 1.5 * GiB }, copies[1]]);
  });

  it.each([
    ['a size that is none', withSpec({ size: '10 Gi' }), "spec.size: '10 Gi' is no quantity such as 10Gi"],
    ['a negative size', withSpec({ size: -1 }), "spec.size: '-1' is no quantity"],
    ['a format of a later version', withSpec({ format: 'vmdk' }), 'spec.format:'],
    ['a source of a later version', withSpec({ source: { type: 'ftp' } }), 'spec.source.type:'],
    ['a source without its member', withSpec({ source: { type: 'diskImage' } }), 'spec.source:'],
    ['a URL that is none', withSpec({ source: { type: 'http', http: { url: 'here' } } }), 'url must be an http'],
    ['no spec', { ...image, spec: undefined }, 'spec:'],
    ['another version', { ...image, apiVersion: 'lamina.storage/v9' }, 'apiVersion:'],
    ['a status that is none', { ...image, status: { chainDepth: 'deep' } }, 'status.chainDepth:'],
  ])('is refused with %s, by its name and the field', (_, object, problem) => {
    expect(() => diskImages.parse(object)).toThrow(LaminaError);
    expect(() => diskImages.parse(object)).toThrow('DiskImage media/scratch is not what this version');
    expect(() => diskImages.parse(object)).toThrow(problem);
    expect(() => diskImages.parse(object)).toThrow(expect.objectContaining({ code: 'resource-invalid' }));
  });

  it.each([null, 'text', [], {}, { metadata: { name: 7 } }])('is not %j', (object) => {
    expect(() => diskImages.parse(object)).toThrow('a DiskImage is not what');
  });
});

describe('a DiskSnapshot', () => {
  const snapshot: DiskSnapshotManifest = {
    apiVersion: 'lamina.storage/v1alpha1',
    kind: 'DiskSnapshot',
    metadata: { name: 'monday', namespace: 'media', ...stored },
    spec: { diskImageName: 'scratch' },
    status: { creationTime: '2026-01-02T03:04:06Z', restoreSize: '10Gi' },
  };

  it('is parsed', () => {
    const { spec, status } = diskSnapshots.parse(snapshot);
    expect(spec).toEqual({ diskImageName: 'scratch' });
    expect(status).toEqual({ conditions: [], creationTime: '2026-01-02T03:04:06Z', restoreSize: 10 * GiB });
  });

  it('is not a DiskImage', () => {
    expect(() => diskImages.parse(snapshot)).toThrow('kind:');
  });
});

describe('a DiskPool', () => {
  const pool: DiskPoolManifest = {
    apiVersion: 'lamina.storage/v1alpha1',
    kind: 'DiskPool',
    metadata: { name: diskPoolName('default', 'worker-1'), ...stored },
    spec: { poolName: 'default', nodeName: 'worker-1' },
    status: {
      orphans: [
        {
          kind: 'disk',
          id: 'pvc-1',
          name: 'pvc-1',
          size: '1Gi',
          createdAt: '2026-01-02T03:04:06Z',
          foundAt: '2026-01-02T03:04:06Z',
        },
      ],
    },
  };

  it('is parsed, without a namespace', () => {
    const { metadata, status } = diskPools.parse(pool);
    expect(metadata.namespace).toBeUndefined();
    expect(status.orphans).toEqual([expect.objectContaining({ id: 'pvc-1', size: GiB })]);
    expect(diskPools.parse({ ...pool, status: undefined }).status).toEqual({ conditions: [], orphans: [] });
  });

  it('is named without a namespace where it is refused', () => {
    expect(() => diskPools.parse({ ...pool, spec: {} })).toThrow('DiskPool default.worker-1 is not');
  });
});

describe('docs/users/api.md', () => {
  const parsers = { DiskImage: diskImages.parse, DiskSnapshot: diskSnapshots.parse, DiskPool: diskPools.parse };

  it('has an example for each source, all of which can be parsed', async () => {
    const text = await readFile(new URL('../../../docs/users/api.md', import.meta.url), 'utf8');
    const blocks = [...text.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, yaml = '']) => yaml);
    const examples = blocks.flatMap((yaml) => parseAllDocuments(yaml, { version: '1.1' }).map((one) => one.toJS()));
    const ours = examples.filter(({ apiVersion }) => apiVersion === groupVersion);
    const sources = ours.map(({ kind, metadata, ...rest }) => {
      const example = { kind, metadata: { ...metadata, ...stored }, ...rest };
      const { spec } = parsers[kind as keyof typeof parsers](example);
      return 'source' in spec ? spec.source.type : undefined;
    });
    expect(sources).toEqual(expect.arrayContaining([...sourceTypes]));
  });
});
