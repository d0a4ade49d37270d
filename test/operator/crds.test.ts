import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { groupVersion } from '../../src/api/names.ts';
import { diskImages, diskPools, diskSnapshots } from '../../src/api/objects.ts';
import { pollUntil } from '../../src/lib/poll.ts';
import { collections, conditionsSchema, CrdScene, definitionsPath, objectSchema, refusalOf } from '../crd-scene.ts';
import { findApiServer } from '../kube-api-server.ts';

const found = await findApiServer();
let scene: CrdScene;

beforeAll(async () => {
  if ('missing' in found) return;
  scene = await CrdScene.start(found);
}, 240_000);
afterAll(() => scene?.server.stop());

test('the API server takes the definitions in crds/ without a warning, and serves them', async (context) => {
  if ('missing' in found) return context.skip(found.missing);
  expect(scene.installed.map(({ status, warnings }) => [status, warnings])).toEqual(
    scene.installed.map(() => [201, []]),
  );
  expect(scene.installed.length).toBe(Object.keys(collections).length);
  for (const collection of Object.values(collections)) {
    expect((await scene.server.send('GET', collection)).status).toBe(200);
  }
  const { body } = await scene.server.send('GET', definitionsPath);
  const { items } = z.object({ items: z.array(conditionsSchema) }).parse(body);
  const types = items.flatMap(({ status }) => status.conditions.map(({ type }) => type));
  expect(types).not.toContain('NonStructuralSchema');
});

/** Where there is no API server, the test above says so for all of them. */
const suite = 'missing' in found ? () => {} : describe;

const resourcesSchema = z.object({
  resources: z.array(
    z.object({
      name: z.string(),
      kind: z.string(),
      namespaced: z.boolean(),
      shortNames: z.array(z.string()).optional(),
      categories: z.array(z.string()).optional(),
    }),
  ),
});

interface Explained {
  description?: string;
  type?: string;
  properties?: Record<string, Explained>;
  items?: Explained;
}

/** The fields below a schema that `kubectl explain` says nothing about. */
function unexplained({ properties = {}, items }: Explained, at: string): string[] {
  const below = Object.entries(properties).flatMap(([name, field]) => [
    ...(field.description ? [] : [`${at}.${name}`]),
    ...unexplained(field, `${at}.${name}`),
  ]);
  return items ? [...below, ...unexplained(items, `${at}[]`)] : below;
}

suite('the definitions in crds/', () => {
  it('give the kinds their short names, the category and a status of its own', async () => {
    const { resources } = resourcesSchema.parse((await scene.server.send('GET', `/apis/${groupVersion}`)).body);
    const named = resources.filter(({ shortNames }) => shortNames);
    const facts = named.map(({ kind, shortNames, categories, namespaced }) => [
      kind,
      shortNames,
      categories,
      namespaced,
    ]);
    expect(facts.toSorted()).toEqual([
      ['DiskImage', ['di'], ['lamina'], true],
      ['DiskPool', ['dpool'], ['lamina'], false],
      ['DiskSnapshot', ['dsnap'], ['lamina'], true],
    ]);
    const names = resources.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['diskimages/status', 'disksnapshots/status', 'diskpools/status']));
  });

  it('explain every field that kubectl explain can be asked for', async () => {
    const schemas = async () => {
      const { body } = await scene.server.send('GET', `/openapi/v3/apis/${groupVersion}`);
      return (body as { components?: { schemas?: Record<string, Explained> } }).components?.schemas ?? {};
    };
    const names = Object.keys(collections).map((kind) => `storage.lamina.v1alpha1.${kind}`);
    const areThere = async () => {
      const known = await schemas();
      return names.every((name) => name in known);
    };
    expect(await pollUntil(areThere, { timeoutMs: 30_000, intervalMs: 200 })).toBe(true);
    const explained = await schemas();
    for (const name of names) {
      const { description, properties } = explained[name] ?? {};
      expect(description).toMatch(/^A Disk/);
      expect(Object.keys(properties ?? {})).toEqual(expect.arrayContaining(['spec', 'status']));
      expect(unexplained(explained[name] ?? {}, name)).toEqual([]);
    }
    const { spec } = explained['storage.lamina.v1alpha1.DiskImage']?.properties ?? {};
    expect(spec?.properties?.['source']?.properties?.['http']?.properties?.['url']?.description).toContain('Redirects');
  });
});

suite('the API server takes', () => {
  it('a DiskImage with nothing but a size, and fills in the rest', async () => {
    const { spec } = await scene.created('DiskImage', 'spec: {size: 10Gi}');
    expect(spec).toEqual({
      size: '10Gi',
      format: 'qcow2',
      preallocation: 'off',
      liveSnapshots: false,
      pool: 'default',
      source: { type: 'blank' },
    });
  });

  it.each([
    ['a size as a number', 'spec: {size: 1073741824}'],
    ['the smallest size', 'spec: {size: 1Mi}'],
    ['the biggest size', 'spec: {size: 17592186040320}'],
    ['a size that is a fraction', 'spec: {size: 1.5Gi}'],
    ['a size with many digits', 'spec: {size: 12345678901234}'],
    ['a size of 12.5 TiB', 'spec: {size: 12.5Ti}'],
    [
      'raw with all of its space, on a node',
      'spec: {size: 1G, format: raw, preallocation: falloc, nodeName: worker-1}',
    ],
    ['preallocated metadata of qcow2', 'spec: {size: 1Gi, preallocation: metadata, clusterSize: 128Ki}'],
    ['a copy of a disk, without a size', 'spec: {source: {type: diskImage, diskImage: {name: other}}}'],
    ['a copy of a snapshot, bigger', 'spec: {size: 2Gi, source: {type: diskSnapshot, diskSnapshot: {name: monday}}}'],
    ['live snapshots of raw', 'spec: {size: 1Gi, format: raw, liveSnapshots: true, pool: fast}'],
    [
      'a source in another namespace, which the controller may refuse',
      'metadata: {name: own}\nspec: {source: {type: diskImage, diskImage: {name: own, namespace: other}}}',
    ],
    [
      'an image from a web server',
      'spec: {source: {type: http, http: {url: "http://localhost:8080/a%20b.img?x=y@z"}}}',
    ],
    [
      'an image from a web server with all that belongs to it, on many nodes',
      `spec:
        source:
          type: http
          http:
            url: https://[2001:db8::1]/debian.qcow2
            checksum: sha512:${'0a'.repeat(64)}
            headersSecret: headers
            certificateAuthority: authority
        nodes: [worker-2, worker-3]
        nodeSelector: {example.org/zone: a, kubernetes.io/os: linux}`,
    ],
    [
      'an image of a tag',
      'spec: {source: {type: registry, registry: {image: "registry.example.org:5000/a/b_c:v1.2"}}}',
    ],
    [
      'an image of a digest, with all that belongs to it',
      `spec:
        size: 20Gi
        source:
          type: registry
          registry:
            image: localhost/debian@sha256:${'0a'.repeat(32)}
            path: /disk/debian-13.qcow2
            pullSecret: pull
            certificateAuthority: authority`,
    ],
    ['an upload', 'spec: {source: {type: upload, upload: {}}}'],
    [
      'an upload with its checksum, of a size',
      `spec: {size: 1Gi, format: raw, source: {type: upload, upload: {checksum: "sha256:${'0'.repeat(64)}"}}}`,
    ],
    ['a volume, sealed', 'spec: {source: {type: persistentVolumeClaim, persistentVolumeClaim: {name: data}}}'],
    [
      'a volume as it was, not sealed',
      'spec: {sealed: false, source: {type: volumeSnapshot, volumeSnapshot: {name: m}}}',
    ],
    ['a sealed copy', 'spec: {sealed: true, nodes: [b], source: {type: diskImage, diskImage: {name: a}}}'],
  ])('a DiskImage with %s', async (_, yaml) => {
    const object = await scene.created('DiskImage', yaml);
    expect(diskImages.parse(object).spec.source.type).toBeDefined();
  });

  it('every example in docs/users/api.md', async () => {
    await scene.server.send('POST', '/api/v1/namespaces', { body: { metadata: { name: 'media' } } });
    const text = await readFile(path.resolve(import.meta.dirname, '../../docs/users/api.md'), 'utf8');
    const blocks = [...text.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, yaml = '']) => yaml);
    const examples = blocks.flatMap((yaml) => parseAllDocuments(yaml, { version: '1.1' }).map((one) => one.toJS()));
    const ours = examples.filter(({ apiVersion }) => apiVersion === groupVersion).map((one) => objectSchema.parse(one));
    expect(ours.length).toBeGreaterThan(8);
    for (const example of ours) {
      const collection = collections[example.kind].replace('/default/', `/${String(example.metadata['namespace'])}/`);
      const { status, body } = await scene.server.send('POST', `${collection}?fieldValidation=Strict`, {
        body: example,
      });
      expect(body).not.toHaveProperty('message');
      expect(status).toBe(201);
    }
  });

  it('a DiskSnapshot, and a DiskPool named as its pool and node are', async () => {
    diskSnapshots.parse(await scene.created('DiskSnapshot', 'spec: {diskImageName: other}'));
    const yaml = 'metadata: {name: default.worker-1}\nspec: {poolName: default, nodeName: worker-1}';
    diskPools.parse(await scene.created('DiskPool', yaml));
  });
});

const httpOf = (http: object) => `spec: {source: {type: http, http: ${JSON.stringify(http)}}}`;
const registryOf = (registry: object) => `spec: {source: {type: registry, registry: ${JSON.stringify(registry)}}}`;

suite('the API server refuses', () => {
  it.each([
    ['DiskImage', 'spec: {}', 'spec.size: Invalid value', 'size is required for a blank disk: say how big'],
    ['DiskImage', 'spec: {size: 0}', 'spec.size: Invalid value', 'size must be at least 1Mi and less than 16Ti'],
    ['DiskImage', 'spec: {size: "0"}', 'spec.size: Invalid value', 'size must be at least 1Mi'],
    ['DiskImage', 'spec: {size: 10}', 'spec.size: Invalid value', 'such as 10Gi'],
    ['DiskImage', 'spec: {size: -1Gi}', 'spec.size: Invalid value', 'size must be at least 1Mi'],
    ['DiskImage', 'spec: {size: 16Ti}', 'spec.size: Invalid value', 'less than 16Ti'],
    ['DiskImage', 'spec: {size: 100Ti}', 'spec.size: Invalid value', 'less than 16Ti'],
    ['DiskImage', 'spec: {size: big}', 'spec.size: Invalid value', 'size is not a quantity'],
    ['DiskImage', 'spec: {size: 10GB}', 'spec.size: Invalid value', 'size is not a quantity'],
    ['DiskImage', 'spec: {size: 1Gi, format: vmdk}', 'spec.format: Unsupported value: "vmdk"', '"qcow2", "raw"'],
    [
      'DiskImage',
      'spec: {size: 1Gi, format: raw, preallocation: metadata}',
      'spec.preallocation: Invalid value',
      "preallocation 'metadata' is for format qcow2 only",
    ],
    [
      'DiskImage',
      'spec: {size: 1Gi, format: raw, clusterSize: 64Ki}',
      'spec.clusterSize: Invalid value',
      'clusterSize is for format qcow2 only',
    ],
    ['DiskImage', 'spec: {size: 1Gi, clusterSize: 3Ki}', 'spec.clusterSize: Unsupported value', '"64Ki"'],
    ['DiskImage', 'spec: {size: 1Gi, preallocation: off}', 'spec.preallocation: Invalid value: "boolean"', 'string'],
    ['DiskImage', 'spec: {size: 1Gi, pool: Fast_Pool}', 'spec.pool: Invalid value: "Fast_Pool"', 'should match'],
    ['DiskImage', 'spec: {source: {}}', 'spec.source.type: Required value', ''],
    ['DiskImage', 'spec: {source: {type: ftp}}', 'Unsupported value: "ftp"', '"blank", "diskImage", "diskSnapshot"'],
    ['DiskImage', 'spec: {source: {type: ftp, ftp: {url: "ftp://x"}}}', 'unknown field "spec.source.ftp"', ''],
    ['DiskImage', 'spec: {source: {type: diskImage}}', 'spec.source.diskImage: Invalid value', 'give the member'],
    [
      'DiskImage',
      'spec: {size: 1Gi, source: {type: blank, diskSnapshot: {name: monday}}}',
      'spec.source.diskSnapshot: Invalid value',
      "source.diskSnapshot belongs to source.type 'diskSnapshot'",
    ],
    [
      'DiskImage',
      'spec: {source: {type: diskImage, diskImage: {name: a}, diskSnapshot: {name: monday}}}',
      'spec.source.diskSnapshot: Invalid value',
      'only that one',
    ],
    [
      'DiskImage',
      'metadata: {name: self}\nspec: {source: {type: diskImage, diskImage: {name: self}}}',
      'spec.source.diskImage.name: Invalid value',
      'source.diskImage is the DiskImage itself',
    ],
    ['DiskImage', 'spec: {source: {type: http}}', 'spec.source.http: Invalid value', 'give the member'],
    ['DiskImage', 'spec: {source: {type: http, http: {}}}', 'spec.source.http.url: Required value', ''],
    ...['ftp://x/y', 'images/x', '', 'https://', 'https:///x', 'HTTPS://x/y', 'https://x/y z', 'https://x/y#z'].map(
      (url) =>
        ['DiskImage', httpOf({ url }), 'spec.source.http.url: Invalid value', 'url must be an http or https'] as const,
    ),
    ...['https://user:secret@x/y', 'https://user@x', 'https://@/'].map(
      (url) => ['DiskImage', httpOf({ url }), 'spec.source.http.url', 'put credentials into headersSecret'] as const,
    ),
    ['DiskImage', httpOf({ url: `https://x/${'y'.repeat(2048)}` }), 'spec.source.http.url: Too long', '2048'],
    ...[
      `sha256:${'0a'.repeat(31)}`,
      `sha256:${'0a'.repeat(64)}`,
      `sha512:${'0a'.repeat(32)}`,
      `sha256:${'0A'.repeat(32)}`,
      `md5:${'0a'.repeat(16)}`,
      '0a'.repeat(32),
      '',
    ].map(
      (checksum) =>
        [
          'DiskImage',
          httpOf({ url: 'http://x', checksum }),
          'spec.source.http.checksum: Invalid value',
          'checksum must be sha256: and 64 or sha512: and 128',
        ] as const,
    ),
    ['DiskImage', httpOf({ url: 'http://x', headersSecret: 'A B' }), 'spec.source.http.headersSecret', 'should match'],
    ...['debian', 'debian:13', 'library/debian', 'docker://registry.example.org/x', 'registry.example.org', ''].map(
      (image) =>
        ['DiskImage', registryOf({ image }), 'spec.source.registry.image', 'image must be a reference'] as const,
    ),
    ...['registry.example.org/x@sha256:0a', 'registry.example.org/X', 'registry.example.org/x:', 'a.b/../c'].map(
      (image) =>
        ['DiskImage', registryOf({ image }), 'spec.source.registry.image', 'image must be a reference'] as const,
    ),
    ...['disk.qcow2', '/', '/disk/', '//disk'].map(
      (file) =>
        [
          'DiskImage',
          registryOf({ image: 'registry.example.org/x', path: file }),
          'spec.source.registry.path: Invalid value',
          'path must be that of a file',
        ] as const,
    ),
    [
      'DiskImage',
      'spec: {source: {type: http, http: {url: "http://x"}, registry: {image: "registry.example.org/x"}}}',
      'spec.source.registry: Invalid value',
      'only that one',
    ],
    [
      'DiskImage',
      'spec: {source: {type: upload}}',
      'spec.source.upload: Invalid value',
      "source.upload belongs to source.type 'upload'",
    ],
    [
      'DiskImage',
      'spec: {source: {type: upload, upload: {checksum: "md5:0"}}}',
      'spec.source.upload.checksum: Invalid value',
      'checksum must be',
    ],
    [
      'DiskImage',
      'spec: {source: {type: volumeSnapshot, persistentVolumeClaim: {name: data}}}',
      'spec.source.persistentVolumeClaim: Invalid value',
      "source.volumeSnapshot belongs to source.type 'volumeSnapshot'",
    ],
    [
      'DiskImage',
      'spec: {source: {type: persistentVolumeClaim, persistentVolumeClaim: {name: data, namespace: other}}}',
      'unknown field "spec.source.persistentVolumeClaim.namespace"',
      '',
    ],
    [
      'DiskImage',
      'spec: {source: {type: diskImage, diskImage: {name: a, namespace: a.b}}}',
      'spec.source.diskImage.namespace: Invalid value',
      'should match',
    ],
    ['DiskImage', 'spec: {size: 1Gi, nodes: [b]}', 'spec.nodes: Invalid value', 'nodes is for sealed DiskImages only'],
    [
      'DiskImage',
      'spec: {size: 1Gi, nodeSelector: {a: b}}',
      'spec.nodeSelector: Invalid value',
      'nodeSelector is for sealed DiskImages only',
    ],
    [
      'DiskImage',
      'spec: {sealed: false, nodes: [b], source: {type: volumeSnapshot, volumeSnapshot: {name: m}}}',
      'spec.nodes: Invalid value',
      'say sealed: true',
    ],
    [
      'DiskImage',
      'spec: {size: 1Gi, sealed: false, source: {type: http, http: {url: "http://x"}}}',
      'spec.sealed: Invalid value',
      'what is imported is sealed',
    ],
    ['DiskImage', 'spec: {size: 1Gi, sealed: true, nodes: [b, b]}', 'spec.nodes[1]: Duplicate value', ''],
    ['DiskImage', 'spec: {size: 1Gi, sealed: true, nodes: [B]}', 'spec.nodes[0]: Invalid value', 'should match'],
    [
      'DiskImage',
      'spec: {size: 1Gi, sealed: true, nodeSelector: {}}',
      'spec.nodeSelector: Invalid value',
      'at least 1',
    ],
    ['DiskImage', 'spec: {size: 1Gi, sealed: maybe}', 'spec.sealed: Invalid value', 'boolean'],
    ['DiskImage', 'spec: {size: 1Gi, frozen: true}', 'unknown field "spec.frozen"', ''],
    ['DiskImage', 'metadata: {name: x}', 'spec: Required value', ''],
    ['DiskSnapshot', 'spec: {}', 'spec.diskImageName: Required value', ''],
    ['DiskPool', 'spec: {poolName: default, nodeName: worker-1}', 'Invalid value', 'name must be that of the pool'],
    ['DiskPool', 'metadata: {name: default.x}\nspec: {poolName: default}', 'spec.nodeName: Required value', ''],
  ] as const)('a %s of %s', async (kind, yaml, where, sentence) => {
    const message = refusalOf(await scene.create(scene.objectOf(kind, yaml)));
    expect(message).toContain(where);
    expect(message).toContain(sentence);
  });
});
