import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { annotations, fieldManagers, groupVersion } from '../../src/api/names.ts';
import { diskImages, diskPools, diskSnapshots } from '../../src/api/objects.ts';
import { GiB } from '../../src/lib/bytes.ts';
import { pollUntil } from '../../src/lib/poll.ts';
import { type ApiAnswer, findApiServer, KubeApiServer } from '../kube-api-server.ts';

const crds = path.resolve(import.meta.dirname, '../../crds');
const definitionsPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

const collections = {
  DiskImage: `/apis/${groupVersion}/namespaces/default/diskimages`,
  DiskSnapshot: `/apis/${groupVersion}/namespaces/default/disksnapshots`,
  DiskPool: `/apis/${groupVersion}/diskpools`,
};
type Kind = keyof typeof collections;

const objectSchema = z.looseObject({
  apiVersion: z.string(),
  kind: z.enum(['DiskImage', 'DiskSnapshot', 'DiskPool']),
  metadata: z.looseObject({ name: z.string() }),
});
type KubeObject = z.infer<typeof objectSchema>;

const statusSchema = z.object({ message: z.string() });
const conditionsSchema = z.object({
  status: z.object({ conditions: z.array(z.object({ type: z.string(), status: z.string() })).default([]) }),
});

const found = await findApiServer();
let server: KubeApiServer;
/** What the API server answered to the definitions. */
const installed: ApiAnswer[] = [];

beforeAll(async () => {
  if ('missing' in found) return;
  server = await KubeApiServer.start(found);
  for (const file of await readdir(crds)) installed.push(await install(await readFile(path.join(crds, file), 'utf8')));
  for (const collection of Object.values(collections)) {
    const isServed = async () => (await server.send('GET', collection)).status === 200;
    await pollUntil(isServed, { timeoutMs: 30_000, intervalMs: 50 });
  }
}, 240_000);
afterAll(() => server?.stop());

/** Creates a definition as kubectl does, and waits until it is established. */
async function install(yaml: string): Promise<ApiAnswer> {
  const definition: unknown = parse(yaml, { version: '1.1' });
  const answer = await server.send('POST', `${definitionsPath}?fieldValidation=Strict`, { body: definition });
  const { metadata } = z.object({ metadata: z.object({ name: z.string() }) }).parse(definition);
  const isEstablished = async () => {
    const { body } = await server.send('GET', `${definitionsPath}/${metadata.name}`);
    const conditions = conditionsSchema.safeParse(body).data?.status.conditions ?? [];
    return conditions.some(({ type, status }) => type === 'Established' && status === 'True');
  };
  await pollUntil(isEstablished, { timeoutMs: 30_000, intervalMs: 50 });
  return answer;
}

let lastNumber = 0;

/** An object of YAML as kubectl reads it; without a name it gets one. */
function objectOf(kind: Kind, yaml: string): KubeObject {
  lastNumber += 1;
  const { metadata, ...rest } = z
    .looseObject({ metadata: z.looseObject({}).optional() })
    .parse(parse(yaml, { version: '1.1' }));
  return { apiVersion: groupVersion, kind, ...rest, metadata: { name: `object-${lastNumber}`, ...metadata } };
}

/** As kubectl does: fields that are not known are refused, not dropped. */
async function create(object: KubeObject): Promise<ApiAnswer> {
  return server.send('POST', `${collections[object.kind]}?fieldValidation=Strict`, { body: object });
}

async function created(kind: Kind, yaml: string): Promise<KubeObject> {
  const { status, body } = await create(objectOf(kind, yaml));
  expect(body).toHaveProperty('metadata.uid');
  expect(status).toBe(201);
  return objectSchema.parse(body);
}

async function patch(object: KubeObject, yaml: string): Promise<ApiAnswer> {
  const body: unknown = parse(yaml, { version: '1.1' });
  return server.send('PATCH', `${pathOf(object)}?fieldValidation=Strict`, {
    body,
    contentType: 'application/merge-patch+json',
  });
}

/** Server-side apply of a status, as a role does it. */
async function report(object: KubeObject, manager: string, status: object): Promise<ApiAnswer> {
  const { apiVersion, kind, metadata } = object;
  return server.send('PATCH', `${pathOf(object)}/status?fieldManager=${manager}&force=true&fieldValidation=Strict`, {
    body: { apiVersion, kind, metadata: { name: metadata.name }, status },
    contentType: 'application/apply-patch+yaml',
  });
}

function pathOf({ kind, metadata }: KubeObject): string {
  return `${collections[kind]}/${metadata.name}`;
}

function condition(type: string, status: string, reason: string, message = ''): object {
  return { type, status, reason, message, lastTransitionTime: '2026-01-02T03:04:05Z', observedGeneration: 1 };
}

const tableSchema = z.object({
  columnDefinitions: z.array(z.object({ name: z.string() })),
  rows: z.array(z.object({ cells: z.array(z.unknown()) })),
});

/** What `kubectl get -o wide` shows of an object: cells by the names of their columns. */
async function rowOf(object: KubeObject): Promise<Record<string, unknown>> {
  const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';
  const { columnDefinitions, rows } = tableSchema.parse((await server.send('GET', pathOf(object), { accept })).body);
  return Object.fromEntries(columnDefinitions.map(({ name }, index) => [name, rows[0]?.cells[index]]));
}

test('the API server takes the definitions in crds/ without a warning, and serves them', async (context) => {
  if ('missing' in found) return context.skip(found.missing);
  expect(installed.map(({ status, warnings }) => [status, warnings])).toEqual(installed.map(() => [201, []]));
  expect(installed.length).toBe(Object.keys(collections).length);
  for (const collection of Object.values(collections)) {
    expect((await server.send('GET', collection)).status).toBe(200);
  }
  const { body } = await server.send('GET', definitionsPath);
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
  properties?: Record<string, Explained>;
}

suite('the definitions in crds/', () => {
  it('give the kinds their short names, the category and a status of its own', async () => {
    const { resources } = resourcesSchema.parse((await server.send('GET', `/apis/${groupVersion}`)).body);
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

  it('explain what kubectl explain is asked for', async () => {
    const schemaOf = async () => {
      const { body } = await server.send('GET', `/openapi/v3/apis/${groupVersion}`);
      const { components } = body as { components?: { schemas?: Record<string, Explained> } };
      return components?.schemas?.['storage.lamina.v1alpha1.DiskImage'];
    };
    expect(await pollUntil(async () => !!(await schemaOf()), { timeoutMs: 30_000, intervalMs: 200 })).toBe(true);
    const schema = await schemaOf();
    expect(schema?.description).toContain('disk image on a node');
    const { spec, status } = schema?.properties ?? {};
    expect(spec?.properties?.['size']?.description).toContain('How big the disk looks');
    expect(status?.properties?.['allocated']?.description).toContain('its own image file');
  });
});

suite('the API server takes', () => {
  it('a DiskImage with nothing but a size, and fills in the rest', async () => {
    const { spec } = await created('DiskImage', 'spec: {size: 10Gi}');
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
  ])('a DiskImage with %s', async (_, yaml) => {
    const object = await created('DiskImage', yaml);
    expect(diskImages.parse(object).spec.source.type).toBeDefined();
  });

  it('a DiskSnapshot, and a DiskPool named as its pool and node are', async () => {
    diskSnapshots.parse(await created('DiskSnapshot', 'spec: {diskImageName: other}'));
    const yaml = 'metadata: {name: default.worker-1}\nspec: {poolName: default, nodeName: worker-1}';
    diskPools.parse(await created('DiskPool', yaml));
  });
});

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
    ['DiskImage', 'spec: {source: {type: http, http: {url: "http://x"}}}', 'unknown field "spec.source.http"', ''],
    ['DiskImage', 'spec: {source: {type: http}}', 'Unsupported value: "http"', '"blank", "diskImage", "diskSnapshot"'],
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
    ['DiskImage', 'spec: {size: 1Gi, sealed: true}', 'unknown field "spec.sealed"', ''],
    ['DiskImage', 'metadata: {name: x}', 'spec: Required value', ''],
    ['DiskSnapshot', 'spec: {}', 'spec.diskImageName: Required value', ''],
    ['DiskPool', 'spec: {poolName: default, nodeName: worker-1}', 'Invalid value', 'name must be that of the pool'],
    ['DiskPool', 'metadata: {name: default.x}\nspec: {poolName: default}', 'spec.nodeName: Required value', ''],
  ] as const)('a %s of %s', async (kind, yaml, where, sentence) => {
    const { status, body } = await create(objectOf(kind, yaml));
    const { message } = statusSchema.parse(body);
    expect(message).toContain(where);
    expect(message).toContain(sentence);
    expect(message).not.toContain('evaluation error');
    expect([400, 422]).toContain(status);
  });
});

suite('of a DiskImage that there is, the API server', () => {
  const blank = 'spec: {size: 10Gi, clusterSize: 64Ki}';

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
  ])('takes %s', async (_, before, change) => {
    const { status, body } = await patch(await created('DiskImage', before), change);
    expect(body).not.toHaveProperty('message');
    expect(status).toBe(200);
  });

  it.each([
    ['a smaller size', blank, 'spec: {size: 9Gi}', 'size cannot shrink'],
    ['a smaller number', 'spec: {size: 2097152}', 'spec: {size: 1048576}', 'size cannot shrink'],
    ['a smaller size in other words', 'spec: {size: 2147483648}', 'spec: {size: 1Gi}', 'size cannot shrink'],
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
    ['a source', blank, 'spec: {source: {type: diskImage, diskImage: {name: a}}}', 'source cannot be changed'],
    [
      'another node',
      'spec: {size: 1Gi, nodeName: worker-1}',
      'spec: {nodeName: worker-2}',
      'nodeName cannot be changed',
    ],
    ['no node', 'spec: {size: 1Gi, nodeName: worker-1}', 'spec: {nodeName: null}', 'nodeName cannot be changed'],
  ])('refuses %s', async (_, before, change, sentence) => {
    const { status, body } = await patch(await created('DiskImage', before), change);
    const { message } = statusSchema.parse(body);
    expect(message).toContain(sentence);
    expect(message).not.toContain('evaluation error');
    expect(status).toBe(422);
  });

  it('refuses another disk of a DiskSnapshot', async () => {
    const { body } = await patch(await created('DiskSnapshot', 'spec: {diskImageName: a}'), 'spec: {diskImageName: b}');
    expect(statusSchema.parse(body).message).toContain('diskImageName cannot be changed');
  });
});

suite('the status', () => {
  it('of a DiskImage is reported by controller and node, each its own conditions', async () => {
    const image = await created('DiskImage', 'spec: {size: 10Gi, nodeName: worker-1}');
    const placed = condition('Placed', 'True', 'NodeChosen');
    const ready = condition('Ready', 'True', 'Made');
    expect((await report(image, fieldManagers.controller, { conditions: [placed] })).status).toBe(200);
    const answer = await report(image, fieldManagers.node, {
      virtualSize: '10Gi',
      allocated: '1.38Gi',
      conditions: [ready],
    });
    expect(answer.status).toBe(200);
    const { status, spec } = diskImages.parse(answer.body);
    expect(status.conditions.map(({ type }) => type)).toEqual(['Placed', 'Ready']);
    expect([spec.size, status.virtualSize]).toEqual([10 * GiB, 10 * GiB]);
  });

  it('is not written with the rest', async () => {
    const image = objectOf('DiskImage', 'spec: {size: 1Gi}');
    const { body } = await create({ ...image, status: { virtualSize: '5Gi' } });
    expect(body).not.toHaveProperty('status');
  });

  it.each([
    ['a progress beyond all', { progress: '101%' }, 'status.progress'],
    ['a size with a unit that is none', { virtualSize: '10GB' }, 'status.virtualSize'],
    ['a condition without a reason', { conditions: [{ ...condition('Ready', 'True', 'Made'), reason: '' }] }, 'reason'],
    ['a condition that is perhaps', { conditions: [condition('Ready', 'Perhaps', 'Made')] }, 'Unsupported value'],
  ])('cannot have %s', async (_, status, where) => {
    const answer = await report(await created('DiskImage', 'spec: {size: 1Gi}'), fieldManagers.node, status);
    expect(statusSchema.parse(answer.body).message).toContain(where);
    expect(answer.status).toBe(422);
  });

  it('of a DiskPool lists orphans, each once', async () => {
    const yaml = 'metadata: {name: default.worker-9}\nspec: {poolName: default, nodeName: worker-9}';
    const pool = await created('DiskPool', yaml);
    const at = '2026-01-02T03:04:05Z';
    const orphan = { kind: 'disk', id: 'pvc-1', name: 'pvc-1', size: '1Gi', createdAt: at, foundAt: at };
    const answer = await report(pool, fieldManagers.node, { orphans: [orphan, { ...orphan, kind: 'snapshot' }] });
    expect(answer.status).toBe(200);
    expect(diskPools.parse(answer.body).status.orphans).toHaveLength(2);
  });
});

suite('kubectl get', () => {
  it('reads like a status page', async () => {
    const image = await created(
      'DiskImage',
      `{metadata: {annotations: {${annotations.claim}: shop/data}}, spec: {size: 20Gi, nodeName: worker-1}}`,
    );
    const full = 'there is no room for 20 GiB: delete disks, or add space';
    await report(image, fieldManagers.node, {
      virtualSize: '10Gi',
      allocated: '1.38Gi',
      format: 'qcow2',
      progress: '40%',
      chainDepth: 3,
      attached: true,
      conditions: [condition('Ready', 'False', 'PoolFull', full), condition('Healthy', 'True', 'NothingFound')],
    });
    expect(await rowOf(image)).toEqual({
      Name: image.metadata.name,
      Ready: 'False',
      Status: 'PoolFull',
      Size: '10Gi',
      Format: 'qcow2',
      Node: 'worker-1',
      Progress: '40%',
      Allocated: '1.38Gi',
      Age: expect.stringMatching(/^\d+s$/),
      Healthy: 'True',
      Attached: true,
      Pool: 'default',
      Source: 'blank',
      Depth: 3,
      Claim: 'shop/data',
      Message: full,
    });
  });

  it('selects by node, and a snapshot by its disk', async () => {
    const image = await created('DiskImage', 'spec: {size: 1Gi, nodeName: worker-77}');
    const snapshot = await created('DiskSnapshot', 'spec: {diskImageName: disk-77, nodeName: worker-77}');
    const namesBy = async (kind: Kind, selector: string) => {
      const { body } = await server.send('GET', `${collections[kind]}?fieldSelector=${encodeURIComponent(selector)}`);
      return z
        .object({ items: z.array(objectSchema) })
        .parse(body)
        .items.map(({ metadata }) => metadata.name);
    };
    expect(await namesBy('DiskImage', 'spec.nodeName=worker-77')).toEqual([image.metadata.name]);
    expect(await namesBy('DiskSnapshot', 'spec.nodeName=worker-77')).toEqual([snapshot.metadata.name]);
    expect(await namesBy('DiskSnapshot', 'spec.diskImageName=disk-77')).toEqual([snapshot.metadata.name]);
    expect(await namesBy('DiskImage', 'spec.nodeName=worker-78')).toEqual([]);
  });
});
