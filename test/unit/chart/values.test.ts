import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { parameterNames } from '../../../src/api/names.ts';
import { chartDirectory, helmMissing, renderChart } from '../../chart.ts';

const missing = await helmMissing();
beforeEach((context) => {
  if (missing) context.skip(missing);
});

/** A schema as far as it is looked at here. */
const schemaSchema = z.looseObject({
  properties: z.record(z.string(), z.looseObject({})).optional(),
  $defs: z.record(z.string(), z.looseObject({})).optional(),
});

async function readSchema() {
  return schemaSchema.parse(JSON.parse(await readFile(path.join(chartDirectory, 'values.schema.json'), 'utf8')));
}

describe('values are refused by name:', () => {
  test.each([
    ['a key that is not known', { pool: [] }, "additional properties 'pool' not allowed"],
    ['a key deep inside', { metrics: { serviceMonitor: { intervall: '1m' } } }, "'intervall' not allowed"],
    ['a key of an image', { engine: { image: { tagg: 'x' } } }, "at '/engine/image': additional properties 'tagg'"],
    ['a pool without a directory', { pools: [{ name: 'default' }] }, "at '/pools/0': missing property 'path'"],
    ['a log level that there is not', { logLevel: 'trace' }, "one of 'debug', 'info', 'warn', 'error'"],
    [
      'a parameter that there is not',
      { storageClasses: [{ name: 'x', parameters: { fomat: 'raw' } }] },
      "additional properties 'fomat' not allowed",
    ],
    [
      'a boolean where Kubernetes wants text',
      { storageClasses: [{ name: 'x', parameters: { liveSnapshots: true } }] },
      "at '/storageClasses/0/parameters/liveSnapshots'",
    ],
    ['more than all of a pool', { space: { reserved: 1 } }, "at '/space/reserved'"],
    // As where all that is below a key is commented out: Helm takes the defaults away.
    ['a section that is empty', { export: null }, "missing property 'export'"],
    ['a section below it that is empty', { metrics: { serviceMonitor: null } }, "missing property 'serviceMonitor'"],
    ['a key without a value', { logLevel: null }, "missing property 'logLevel'"],
    ['a key of a section without a value', { controller: { orphanGraceSeconds: null } }, "'orphanGraceSeconds'"],
    ['an image without one', { provisioner: { image: null } }, "at '/provisioner': missing property 'image'"],
  ])('%s', async (_, values, words) => {
    const { refusal } = await renderChart(values);
    expect(refusal).toContain(words);
  });
});

describe('values that contradict each other are refused with a sentence:', () => {
  const pool = (name: string, directory: string, more: object = {}) => ({ name, path: directory, ...more });
  test.each([
    ['no pool', { pools: null }, 'pools: name at least one directory that holds the disks'],
    ['two pools of a name', { pools: [pool('a', '/mnt/a'), pool('a', '/mnt/b')] }, "'a' is there twice"],
    ['a pool in a pool', { pools: [pool('a', '/mnt'), pool('b', '/mnt/b')] }, "'a' and 'b' lie in each other"],
    ['a pool in two ways', { pools: [pool('a', '/mnt/a/')] }, 'write it as /mnt/a'],
    ['a pool over the image', { pools: [pool('a', '/opt/lamina')] }, 'belongs to the system or to the container image'],
    ['a pool in the system', { pools: [pool('a', '/etc/disks')] }, 'belongs to the system'],
    ["a pool in kubelet's", { pools: [pool('a', '/var/lib/kubelet/a')] }, 'belongs to kubelet'],
    ['a pool over the root', { pools: [pool('a', '/data', { create: false })] }, '/ would have to be mounted'],
    ['a kubelet in two ways', { kubeletPath: '/var/lib/k0s/../kubelet' }, 'write it as /var/lib/kubelet'],
    [
      'a class with another pool',
      { storageClasses: [{ name: 'fast', parameters: { pool: 'nvme' } }] },
      "storageClasses: 'fast' asks for the pool 'nvme', which is not among pools (default)",
    ],
    [
      'raw with metadata',
      { storageClasses: [{ name: 'x', parameters: { format: 'raw', preallocation: 'metadata' } }] },
      'is for format qcow2 only',
    ],
    [
      'raw with clusters',
      { storageClasses: [{ name: 'x', parameters: { format: 'raw', clusterSize: '64Ki' } }] },
      'is for format qcow2 only',
    ],
    ['two classes of a name', { storageClasses: [{ name: 'x' }, { name: 'x' }] }, "'x' is there twice"],
    [
      'two defaults',
      { storageClasses: ['x', 'y'].map((name) => ({ name, default: true })) },
      'storageClasses: x and y are all default: choose one',
    ],
    ['a relative pool', { pools: [pool('a', 'data')] }, "'a' has the path 'data': give a whole one from the root"],
    ['a pool with blanks', { pools: [pool('a', '/my data')] }, "'a' has the path '/my data'"],
    ['a name for no pool', { pools: [pool('A_b', '/mnt/a')] }, "'A_b' is no name for a pool"],
    ['a long name', { pools: [pool('a'.repeat(64), '/mnt/a')] }, 'at most 63'],
    ['a relative kubelet', { kubeletPath: 'var/lib/kubelet' }, "kubeletPath is 'var/lib/kubelet': give the whole path"],
    ['a name for no class', { storageClasses: [{ name: 'Fast' }] }, "'Fast' is no name for a class"],
    ['snapshot classes of a name', { snapshotClasses: [{ name: 'x' }, { name: 'x' }] }, "'x' is there twice"],
    ['a tag in the repository', { image: { repository: 'r.io:5000/lamina:dev' } }, 'so give it as image.tag'],
    ['the same of a sidecar', { resizer: { image: { repository: 'x:1' } } }, 'so give it as resizer.image.tag'],
    ['a name for no Secret', { imagePullSecrets: ['My Secret'] }, "'My Secret' is no name of a Secret"],
    [
      'clusters that QEMU has not',
      { storageClasses: [{ name: 'x', parameters: { clusterSize: '3Ki' } }] },
      "storageClasses: 'x': clusterSize is '3Ki': a power of two",
    ],
    ['a rate of another unit', { transfer: { rate: '10MB' } }, "transfer.rate is '10MB': bytes per second are wanted"],
    ['a rate that the program refuses', { imports: { rate: '500k' } }, "imports.rate is '500k': that is less than 1Mi"],
    [
      'a quantity that is none',
      { node: { resources: { limits: { memory: '10MB' } } } },
      "node.resources.limits.memory is '10MB'",
    ],
    ['a time that is none', { metrics: { serviceMonitor: { interval: '30' } } }, "interval is '30': a time is wanted"],
    ['all of a pool', { space: { reserved: 0.6, critical: 0.4 } }, 'are all of a pool together'],
    [
      'a port for two, one of them for export',
      { export: { enabled: true, port: 9443 } },
      'transfer.port and export.port are both 9443',
    ],
    ['a port for two', { metrics: { port: 9443 } }, 'metrics.port and transfer.port are both 9443'],
  ])('%s', async (_, values, words) => {
    const { refusal } = await renderChart(values);
    expect(refusal).toContain(words);
  });

  test('VolumeAttributesClasses on a Kubernetes without them', async () => {
    const values = { volumeAttributesClasses: [{ name: 'live', parameters: { liveSnapshots: 'true' } }] };
    expect((await renderChart(values, '--kube-version', '1.33.0')).refusal).toContain('need Kubernetes 1.34 or newer');
    expect((await renderChart(values, '--kube-version', '1.34.0')).refusal).toBe('');
  });

  test('but what Kubernetes and the program take is not', async () => {
    const { refusal } = await renderChart({
      transfer: { rate: '1048576' },
      imports: { rate: '1Gi' },
      controller: {
        resources: { requests: { cpu: 1, memory: '1e9', 'example.com/gpu': '2' }, limits: { cpu: '0.5' } },
      },
      storageClasses: [{ name: 'fast.v2', parameters: { clusterSize: '2Mi' } }],
      snapshotClasses: null,
      imagePullSecrets: null,
      node: {
        resources: null,
        nodeSelector: null,
        image: { repository: 'r.io:5000/lamina@sha256', tag: '0'.repeat(64) },
      },
    });
    expect(refusal).toBe('');
  });

  test('all that is wrong, at once', async () => {
    const { refusal } = await renderChart({ pools: [{ name: 'a', path: '/usr/a' }], metrics: { port: 9443 } });
    expect(refusal.match(/^ {2}- /gm)).toHaveLength(2);
  });
});

describe('the schema', () => {
  test('knows the values that there are, and no others', async () => {
    const values = parse(await readFile(path.join(chartDirectory, 'values.yaml'), 'utf8')) as object;
    const { properties } = await readSchema();
    expect(Object.keys(properties ?? {}).toSorted()).toEqual([...Object.keys(values), 'global'].toSorted());
  });

  test('knows the parameters that the program knows', async () => {
    const { properties } = await readSchema();
    const entry = z
      .object({ items: z.object({ properties: z.object({ parameters: schemaSchema }) }) })
      .parse(properties?.['storageClasses']);
    const known = Object.keys(entry.items.properties.parameters.properties ?? {});
    expect(known.toSorted()).toEqual(Object.values(parameterNames).toSorted());
  });
});
