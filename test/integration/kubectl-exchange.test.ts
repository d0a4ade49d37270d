import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { finalizers, groupVersion } from '../../src/api/names.ts';
import { diskPools } from '../../src/api/objects.ts';
import type { ExportTask, KubectlConfig, UploadTask } from '../../src/config/kubectl.ts';
import { isConflict } from '../../src/kube/client/api-error.ts';
import { volumeSnapshotContentType } from '../../src/kube/kinds/core-kinds.ts';
import { volumeSnapshotType } from '../../src/kube/kinds/storage-kinds.ts';
import { ExportedContents } from '../../src/reconcile/node/exported-content.ts';
import { UploadSinks } from '../../src/reconcile/node/upload-sinks.ts';
import { kubectl } from '../../src/roles/kubectl/kubectl.ts';
import { removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { makeImage } from '../import-scene.ts';
import { nodeName, NodeScene } from '../node-scene.ts';
import { UserScene } from '../user-scene.ts';

let directory: string;
let scene: NodeScene;
let users: UserScene;
let said: string;
let following: AbortController;
let followed: Promise<void>;

beforeEach(async () => {
  directory = temporaryDirectory();
  scene = await NodeScene.start(directory);
  const pools = scene.clientOf(diskPools);
  const options = { context: scene.context, diskPools: pools };
  const contents = new ExportedContents({
    ...options,
    volumeSnapshots: scene.clientOf(volumeSnapshotType),
    contents: scene.clientOf(volumeSnapshotContentType),
  });
  users = await UserScene.create(directory, {
    findExport: contents.find,
    findSink: new UploadSinks(scene.context, pools).find,
  });
  await declarePool(nodeName, users.address);
  said = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    said += String(text);
    return true;
  });
  following = new AbortController();
  followed = follow(following.signal);
});
afterEach(async () => {
  following.abort();
  try {
    await followed;
  } finally {
    vi.restoreAllMocks();
    await users.close();
    await scene.stop();
    removeDirectory(directory);
  }
});

async function declarePool(node: string, address: string): Promise<void> {
  const name = `default.${node}`;
  const spec = { poolName: 'default', nodeName: node };
  scene.declare(diskPools, '', { apiVersion: groupVersion, kind: 'DiskPool', metadata: { name }, spec });
  const status = { export: { address, serverName: 'localhost', certificateAuthority: users.certificateAuthority } };
  await scene.clientOf(diskPools).mergePatch({ name }, { status }, { subresource: 'status' });
}

/** What the controller and the node do meanwhile, one object at a time as theirs do; nothing else reconciles it. */
async function follow(signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await followImage();
    } catch (error) {
      if (!isConflict(error)) throw error;
    }
    await setTimeout(50);
  }
}

async function followImage(): Promise<void> {
  const image = await scene.image('golden');
  if (!image) return;
  const ref = { namespace: 'media', name: 'golden' };
  if (image.spec.nodeName === undefined) await scene.context.imageClient.mergePatch(ref, { spec: { nodeName } });
  await scene.reconcileImage('golden');
}

function run(task: KubectlConfig['task'], token = 'good'): Promise<number> {
  const kubeconfig = path.join(directory, 'kubeconfig');
  const config = {
    'current-context': 'here',
    clusters: [{ name: 'here', cluster: { server: scene.server.connection.server.href } }],
    users: [{ name: 'me', user: token === '' ? {} : { token } }],
    contexts: [{ name: 'here', context: { cluster: 'here', user: 'me', namespace: 'media' } }],
  };
  writeFileSync(kubeconfig, JSON.stringify(config));
  return kubectl({ role: 'kubectl', kubeconfig, namespace: null, task, version: '1' });
}

const how = { address: null, serviceAccount: null };
const upload = (file: string, more: Partial<UploadTask> = {}): UploadTask => ({
  kind: 'upload',
  file,
  name: 'golden',
  ...how,
  ...more,
});
const exportOf = (output: string, more: Partial<ExportTask> = {}): ExportTask => ({
  kind: 'export',
  resource: 'diskimages',
  name: 'golden',
  format: 'qcow2',
  output: path.join(directory, output),
  ...how,
  ...more,
});

function fileOf(bytes: Buffer): string {
  const file = path.join(directory, 'file');
  writeFileSync(file, bytes);
  return file;
}

describe('kubectl lamina', () => {
  it('uploads a file into a DiskImage that it declares, and exports it again', async () => {
    const file = fileOf(makeImage(directory, 'qcow2'));
    expect(await run(upload(file))).toBe(0);
    expect(said).toContain('Declared the DiskImage media/golden');
    expect(said).toContain(`The content is in the pool default of node ${nodeName}`);
    for (const format of ['qcow2', 'raw'] as const) {
      const task = exportOf(`out.${format}`, { format });
      expect(await run(task)).toBe(0);
      execFileSync('qemu-img', ['compare', '-f', 'qcow2', '-F', format, file, task.output]);
      expect(existsSync(`${task.output}.part`)).toBe(false);
      await expect(run(task)).rejects.toThrow('is there already');
    }
    // What reads as zeroes is a hole.
    const blocks = execFileSync('stat', ['-c', '%b', path.join(directory, 'out.raw')], { encoding: 'utf8' });
    expect(Number(blocks) * 512).toBeLessThan(8 * 1024 * 1024);
    await expect(run(upload(file))).rejects.toThrow('is made already');
  });

  it('goes on with what has come, and begins anew where that was another file', async () => {
    const image = makeImage(directory, 'raw');
    scene.declareImage('golden', { size: undefined, source: { type: 'upload', upload: {} } });
    await expect.poll(async () => (await scene.image('golden'))?.metadata.finalizers).toEqual([finalizers.disk]);
    const half = image.length / 2;
    const other = Buffer.alloc(half, 7);
    const headers = { 'content-length': String(image.length) };
    const sending = new AbortController();
    const broken = users.ask('PUT', '/diskimages/golden/upload', headers, undefined, (sent) => {
      sent.write(other);
      sending.signal.addEventListener('abort', () => sent.destroy());
    });
    const outcome = broken.catch(() => 'broken');
    await expect.poll(() => users.moves[0]?.bytes).toBe(half);
    sending.abort();
    await outcome;
    await expect.poll(() => users.moves[0]?.result).toBe('stopped');
    const file = fileOf(image);
    expect(await run(upload(file))).toBe(0);
    expect(said.match(/^Sending/gm)).toHaveLength(2);
    const task = exportOf('out', { format: 'raw' });
    expect(await run(task)).toBe(0);
    expect(readFileSync(task.output).equals(image)).toBe(true);
  });

  it('says why a file is refused, with exit code 4, and takes another one', async () => {
    const hostile = makeImage(directory, 'qcow2', ['-u', '-b', '/etc/passwd', '-F', 'raw']);
    expect(await run(upload(fileOf(hostile)))).toBe(4);
    expect(said).toContain('Send it again, or another file');
    expect(await run(upload(fileOf(makeImage(directory, 'qcow2'))))).toBe(0);
  });

  it('says who may not, and what a token is needed for', async () => {
    expect(await run(upload(fileOf(makeImage(directory, 'qcow2'))))).toBe(0);
    const task = exportOf('out');
    await expect(run(task, 'poor')).rejects.toThrow('the node answers 403');
    await expect(run(task, 'bad')).rejects.toThrow('the node answers 401');
    await expect(run(task, '')).rejects.toThrow('--service-account');
    await expect(run(exportOf('out', { name: 'none' }))).rejects.toMatchObject({ code: 'image-not-found' });
    expect(existsSync(`${task.output}.part`)).toBe(false);
  });

  it('asks with the token of a ServiceAccount', async () => {
    expect(await run(upload(fileOf(makeImage(directory, 'qcow2'))))).toBe(0);
    scene.server.inject({
      match: ({ path: asked }) => asked === '/api/v1/namespaces/media/serviceaccounts/backup/token',
      fault: { kind: 'answer', body: () => ({ status: { token: 'good' } }) },
    });
    expect(await run(exportOf('out', { serviceAccount: 'backup' }), '')).toBe(0);
  });

  it('says how a node that cannot be reached can be', async () => {
    scene.declareImage('golden', { size: undefined, nodeName: 'worker-2', source: { type: 'upload', upload: {} } });
    await declarePool('worker-2', '127.0.0.1:1');
    const status = { export: { podNamespace: 'lamina-system', podName: 'lamina-node-x' } };
    const ref = { name: 'default.worker-2' };
    await scene.clientOf(diskPools).mergePatch(ref, { status }, { subresource: 'status' });
    const words = 'kubectl -n lamina-system port-forward pod/lamina-node-x 1, and add --address 127.0.0.1:1';
    await expect(run(exportOf('out'))).rejects.toThrow(words);
  });
});
