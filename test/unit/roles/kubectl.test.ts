import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { diskImages, diskPools, diskSnapshots } from '../../../src/api/objects.ts';
import type { KubectlConfig } from '../../../src/config/kubectl.ts';
import { claims, events, pods, storageClasses, volumes } from '../../../src/roles/kubectl/objects.ts';
import { kubectl } from '../../../src/roles/kubectl/kubectl.ts';
import type { FakeObject, FakeType } from '../../fakes/api-objects.ts';
import { FakeApiServer } from '../../fakes/api-server.ts';

let server: FakeApiServer;
let directory: string;

beforeEach(async () => {
  const types = [diskImages, diskPools, diskSnapshots, claims, events, pods, storageClasses, volumes];
  server = new FakeApiServer({ types });
  await server.start();
  directory = await mkdtemp(path.join(tmpdir(), 'lamina-kubectl-'));
  const kubeconfig = {
    'current-context': 'here',
    clusters: [{ name: 'here', cluster: { server: server.connection.server.href } }],
    contexts: [{ name: 'here', context: { cluster: 'here', namespace: 'media' } }],
  };
  await writeFile(path.join(directory, 'config'), JSON.stringify(kubeconfig));
});

afterEach(async () => {
  vi.restoreAllMocks();
  await server.stop();
  await rm(directory, { recursive: true });
});

/** What the command prints, and its exit code. */
async function run(
  task: KubectlConfig['task'],
  namespace: string | null = null,
): Promise<{ said: string; code: number }> {
  let said = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    said += String(text);
    return true;
  });
  const kubeconfig = path.join(directory, 'config');
  const code = await kubectl({ role: 'kubectl', kubeconfig, namespace, task, version: '1.2.3' });
  return { said, code };
}

const why = (claim: string) => run({ kind: 'why', claim });

function make(type: Omit<FakeType, 'hasStatus'>, name: string, members: object, namespace = 'media'): FakeObject {
  const { annotations, ...rest } = members as { annotations?: object };
  const apiVersion = type.group ? `${type.group}/${type.version}` : type.version;
  const manifest = {
    apiVersion,
    kind: type.kind,
    metadata: { name, ...(annotations ? { annotations } : {}) },
    ...rest,
  };
  // With its status, as somebody has reported it.
  return server.objects.create(
    { type: { ...type, hasStatus: false }, namespace: type.namespaced ? namespace : '' },
    manifest,
  );
}

const condition = (type: string, status: string, reason: string, message = 'All is well.') => ({
  type,
  status,
  reason,
  message,
  lastTransitionTime: '2026-01-01T00:00:00Z',
});

function makePool(nodeName: string, members: object = {}): void {
  const space = {
    total: '100Gi',
    free: '40Gi',
    reserved: '0',
    criticalMark: '2Gi',
    overcommit: '2',
    provisioned: '150Gi',
    allocated: '30Gi',
    availableThin: '50Gi',
    availableThick: '38Gi',
  };
  const status = { conditions: [condition('Ready', 'True', 'Serving')], space, disks: 3, snapshots: 1, ...members };
  make(diskPools, `default.${nodeName}`, { spec: { poolName: 'default', nodeName }, status });
}

function makeStorageClass(volumeBindingMode = 'WaitForFirstConsumer', provisioner = 'csi.lamina.storage'): void {
  make(storageClasses, 'lamina', { provisioner, volumeBindingMode });
}

function makeClaim(members: { phase?: string; volumeName?: string; annotations?: object } = {}): FakeObject {
  const { phase = 'Pending', volumeName, annotations } = members;
  return make(claims, 'data', {
    annotations,
    spec: { storageClassName: 'lamina', volumeName, resources: { requests: { storage: '10Gi' } } },
    status: { phase },
  });
}

function makePod(status: object): FakeObject {
  const volume = { name: 'v', persistentVolumeClaim: { claimName: 'data' } };
  return make(pods, 'web', { spec: { volumes: [volume] }, status });
}

function makeVolume(conditions: object[], status: object = {}): void {
  const annotations = { 'lamina.storage/claim': 'media/data', 'lamina.storage/csi-name': 'pvc-1' };
  const spec = { size: '10Gi', nodeName: 'worker-a', source: { type: 'blank' } };
  make(diskImages, 'pvc-1', { annotations, spec, status: { conditions, ...status } }, 'lamina-system');
}

describe('kubectl lamina pools', () => {
  it('shows the space of each pool as a bar, and what is wrong below', async () => {
    makePool('worker-b', { conditions: [condition('Ready', 'Unknown', 'NodeSilent', 'Nothing was heard of it.')] });
    makePool('worker-a', { orphanCount: 2 });
    const { said, code } = await run({ kind: 'pools' });
    expect(said.split('\n')).toEqual([
      'NODE       POOL      STATUS       SPACE                  FREE     TOTAL     PROMISED   DISKS   SNAPSHOTS   ORPHANS',
      'worker-a   default   Serving      ██████▒▒▒▒▒▒········   40 GiB   100 GiB   150%       3       1           2',
      'worker-b   default   NodeSilent   ██████▒▒▒▒▒▒········   40 GiB   100 GiB   150%       3       1',
      '█ images  ▒ other files, and what is reserved  · free',
      'default.worker-b: Ready: NodeSilent: Nothing was heard of it.',
      '',
    ]);
    expect(code).toBe(0);
  });

  it('says so where there is none', async () => {
    expect((await run({ kind: 'pools' })).said).toContain('There is no DiskPool');
  });
});

describe('kubectl lamina tree', () => {
  beforeEach(() => {
    makeVolume([condition('Ready', 'True', 'Made')], { virtualSize: '10Gi', format: 'qcow2', attached: true });
    const spec = { diskImageName: 'pvc-1', nodeName: 'worker-a' };
    const status = { conditions: [condition('Ready', 'True', 'Taken')] };
    make(diskSnapshots, 'snap-1', { spec, status }, 'lamina-system');
    const source = { type: 'diskSnapshot', diskSnapshot: { name: 'snap-1' } };
    const clone = { conditions: [condition('Ready', 'False', 'Making')], progress: '40%' };
    make(diskImages, 'pvc-2', { spec: { size: '10Gi', nodeName: 'worker-a', source }, status: clone }, 'lamina-system');
    make(diskImages, 'debian', { spec: { size: '2Gi', source: { type: 'blank' } }, status: {} }, 'images');
  });

  it('shows what started from what, node by node', async () => {
    expect((await run({ kind: 'tree' })).said.split('\n')).toEqual([
      '(on no node yet)',
      '└─ DiskImage images/debian  2 GiB  qcow2  NotSeenYet',
      'worker-a',
      '└─ DiskImage lamina-system/pvc-1  (claim media/data)  10 GiB  qcow2  Ready  attached',
      '   └─ DiskSnapshot lamina-system/snap-1  Ready',
      '      └─ DiskImage lamina-system/pvc-2  10 GiB  qcow2  Making  40%',
      '',
    ]);
  });

  it('of a namespace shows the volumes of its claims, and what started from them', async () => {
    const { said } = await run({ kind: 'tree' }, 'media');
    expect(said).toContain('pvc-1');
    expect(said).toContain('pvc-2');
    expect(said).not.toContain('debian');
  });
});

describe('kubectl lamina why', () => {
  it('says that a claim is not there', async () => {
    const { said, code } = await why('data');
    expect(said).toContain('There is no PersistentVolumeClaim media/data.');
    expect(code).toBe(4);
  });

  it('says that a claim is for another driver', async () => {
    makeStorageClass('Immediate', 'other.example');
    makeClaim();
    expect((await why('data')).said).toContain("StorageClass lamina is other.example's, not Lamina's.");
  });

  it('says that a claim waits for its first pod', async () => {
    makeStorageClass();
    makeClaim();
    expect((await why('data')).said.split('\n')).toEqual([
      'PersistentVolumeClaim media/data is Pending: 10Gi, StorageClass lamina.',
      'It waits for the first pod that uses it: only then is a node chosen (WaitForFirstConsumer).',
      '',
      'To do: make the pod.',
      '',
    ]);
  });

  it('says that a claim waits for a pod that cannot be scheduled', async () => {
    makeStorageClass();
    makeClaim();
    makePod({ phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', message: '0/2 nodes fit' }] });
    expect((await why('data')).said).toContain('It waits until pod web is scheduled: 0/2 nodes fit');
  });

  it('tells of a provisioning that fails, the last warning first', async () => {
    makeStorageClass();
    const { metadata } = makeClaim({ annotations: { 'volume.kubernetes.io/selected-node': 'worker-a' } });
    const involvedObject = { uid: metadata.uid };
    const warning = { type: 'Warning', reason: 'ProvisioningFailed', involvedObject };
    const minutesAgo = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString();
    make(events, 'e1', { ...warning, message: 'old', count: 1, lastTimestamp: minutesAgo(60) });
    make(events, 'e2', { ...warning, message: '[pool-full] no room', count: 12, lastTimestamp: minutesAgo(5) });
    make(events, 'e3', { ...warning, type: 'Normal', message: 'fine', lastTimestamp: minutesAgo(1) });
    make(events, 'e4', { ...warning, message: 'of another', involvedObject: { uid: 'other' } });
    const { said, code } = await why('data');
    expect(said).toContain('The scheduler chose the node worker-a for it.');
    expect(said).toMatch(
      /5m ago, 12 times: ProvisioningFailed: \[pool-full\] no room\n {2}60m ago: ProvisioningFailed: old\n/,
    );
    expect(said).not.toContain('fine');
    expect(said).not.toContain('of another');
    expect(code).toBe(4);
  });

  it('walks to the DiskImage that is being made, and to its pool that is full', async () => {
    makeStorageClass('Immediate');
    makeClaim();
    makeVolume([condition('Ready', 'False', 'PoolFull', 'There is no room for 10 GiB.')]);
    makePool('worker-a', {
      conditions: [condition('SpaceAvailable', 'False', 'BelowCriticalMark', 'Space is short.')],
    });
    const { said, code } = await why('data');
    expect(said).toContain('DiskImage lamina-system/pvc-1 is on node worker-a.');
    expect(said).toContain('  Ready is False (PoolFull): There is no room for 10 GiB.');
    expect(said).toContain('DiskPool default.worker-a is not served, 40 GiB of 100 GiB free.');
    expect(said).toContain('  SpaceAvailable is False (BelowCriticalMark): Space is short.');
    expect(said).toContain("To do: make room or add space ('kubectl lamina pools' shows where), or delete the claim.");
    expect(code).toBe(4);
  });

  it('says that a bound claim waits for nothing', async () => {
    makeClaim({ phase: 'Bound', volumeName: 'pv-1' });
    make(volumes, 'pv-1', { spec: { csi: { driver: 'csi.lamina.storage', volumeHandle: 'pvc-1' } } });
    makeVolume([condition('Ready', 'True', 'Made'), condition('Healthy', 'True', 'NothingFound')]);
    makePool('worker-a');
    makePod({ phase: 'Running' });
    expect(await why('data')).toEqual({
      code: 0,
      said: [
        'PersistentVolumeClaim media/data is Bound: 10Gi, StorageClass lamina.',
        'DiskImage lamina-system/pvc-1 is on node worker-a.',
        'DiskPool default.worker-a is served, 40 GiB of 100 GiB free.',
        'Pod web uses it and is Running.',
        'Nothing is waited for.',
        '',
      ].join('\n'),
    });
  });

  it('says what is wrong with a bound claim: its daemon died, and no pool is reported', async () => {
    makeClaim({ phase: 'Bound', volumeName: 'pv-1' });
    make(volumes, 'pv-1', { spec: { csi: { driver: 'csi.lamina.storage', volumeHandle: 'pvc-1' } } });
    makeVolume([condition('Ready', 'True', 'Made'), condition('Healthy', 'False', 'EngineDead', 'The daemon died.')]);
    const { said, code } = await why('data');
    expect(said).toContain('Healthy is False (EngineDead): The daemon died.');
    expect(said).toContain('To do: delete the pod that uses the volume');
    expect(said).toContain('There is no DiskPool default.worker-a');
    expect(code).toBe(4);
  });

  it('only reads', async () => {
    makeStorageClass('Immediate');
    makeClaim();
    makeVolume([condition('Ready', 'False', 'Making')]);
    await why('data');
    expect(server.writes).toEqual([]);
  });
});
