import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { groupVersion } from '../../src/api/names.ts';
import { type DiskImage, diskImages, diskPools, diskSnapshots } from '../../src/api/objects.ts';
import { ApiClient } from '../../src/kube/client/client.ts';
import { volumeSnapshotContentType } from '../../src/kube/kinds/core-kinds.ts';
import { MutableObjectCache } from '../../src/kube/cache/object-cache.ts';
import { ResourceClient } from '../../src/kube/client/resource-client.ts';
import { volumeSnapshotType } from '../../src/kube/kinds/storage-kinds.ts';
import { TokenReview } from '../../src/kube/client/token-review.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { systemClock as clock } from '../../src/lib/clock.ts';
import { LaminaError } from '../../src/lib/errors.ts';
import { ExportedContents } from '../../src/reconcile/node/exported-content.ts';
import { accessOf } from '../../src/reconcile/node/user-access.ts';
import { NodeExports } from '../../src/roles/node-plugin/node-exports.ts';
import { issue, makeAuthority } from '../../src/transfer/identity/certificates.ts';
import { freePort } from '../free-port.ts';
import { CrdScene } from '../crd-scene.ts';
import {
  type DetachedPool,
  openDetachedPool,
  removeDirectory,
  temporaryDirectory,
  writePattern,
} from '../detached-pool.ts';
import { MemoryLogger } from '../fakes/memory-logger.ts';
import { findApiServer, type KubeApiServer } from '../kube-api-server.ts';
import { createDisk } from '../transfer-scene.ts';

const exec = promisify(execFile);
const found = await findApiServer();
const nodeName = 'worker-1';
const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/default';

let directory: string;
let kube: KubeApiServer;
let client: ApiClient;
let opened: DetachedPool;
let exports: NodeExports;
let log: MemoryLogger;

/** The parts of a node plugin that answer people, on a pool of its own. */
function createExports(port: number): NodeExports {
  const imageClient = new ResourceClient(client, diskImages);
  const context = {
    nodeName,
    systemNamespace: 'lamina-system',
    pools: { state: () => ({ kind: 'serving', pool: { context: opened.context } }) } as never,
    images: new MutableObjectCache<DiskImage>(),
    imageClient,
    snapshotClient: new ResourceClient(client, diskSnapshots),
  };
  const contents = new ExportedContents({
    context,
    diskPools: new ResourceClient(client, diskPools),
    volumeSnapshots: new ResourceClient(client, volumeSnapshotType),
    contents: new ResourceClient(client, volumeSnapshotContentType),
  });
  const reviews = new TokenReview({ client, clock });
  return new NodeExports({
    nodeName,
    listen: `127.0.0.1:${port}`,
    address: `127.0.0.1:${port}`,
    pod: null,
    rate: Number.POSITIVE_INFINITY,
    runDir: directory,
    authorize: (token, request) => reviews.authorize(token, accessOf(request)),
    findExport: contents.find,
    findSink: () => Promise.reject(new LaminaError('image-not-found', 'none is waited for')),
    begin: () => ({ addBytes: () => {}, end: () => {} }),
    onServing: () => {},
    clock,
    logger: log,
  });
}

async function create(where: string, object: object): Promise<void> {
  const { status, body } = await kube.send('POST', where, { body: object });
  if (status !== 201) throw new Error(JSON.stringify(body));
}

/** A ServiceAccount that may do that, or nothing. @returns its token */
async function tokenOf(name: string, rules?: object[]): Promise<string> {
  await create('/api/v1/namespaces/default/serviceaccounts', { metadata: { name } });
  if (rules) {
    await create(`${rbac}/roles`, { metadata: { name }, rules });
    await create(`${rbac}/rolebindings`, {
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
      subjects: [{ kind: 'ServiceAccount', name, namespace: 'default' }],
    });
  }
  const request = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: 600 } };
  const { body } = await kube.send('POST', `/api/v1/namespaces/default/serviceaccounts/${name}/token`, {
    body: request,
  });
  return (body as { status: { token: string } }).status.token;
}

const allowing = (resource: string, verb: string, more: object = {}) => [
  { apiGroups: ['lamina.storage'], resources: [resource], verbs: [verb], ...more },
];

/** As docs/users/export.md says. @returns status and headers; the body goes to a file of its own */
async function curl(
  name: string,
  token: string | undefined,
  ...args: string[]
): Promise<{ status: number; head: string }> {
  const { address = '', serverName, certificateAuthority = '' } = exports.report ?? {};
  const authority = path.join(directory, 'ca.pem');
  writeFileSync(authority, certificateAuthority);
  const header = token === undefined ? [] : ['--header', `Authorization: Bearer ${token}`];
  const target = ['--output', path.join(directory, 'out'), '--dump-header', '-', '--connect-to', `::${address}`];
  const url = `https://${serverName}/v1/namespaces/default/diskimages/${name}`;
  const { stdout } = await exec('curl', ['-sS', '--cacert', authority, ...target, ...header, ...args, url]);
  const statuses = [...stdout.matchAll(/^HTTP\/1.1 (\d+)/gm)].map(([, status]) => Number(status));
  return { status: statuses.at(-1) ?? 0, head: stdout.toLowerCase() };
}

const suite = 'missing' in found ? () => {} : describe;

it('needs an API server', (context) => {
  if ('missing' in found) context.skip(found.missing);
});

suite('a node that exports, of people whom a real API server knows', () => {
  beforeAll(async () => {
    if ('missing' in found) return;
    kube = (await CrdScene.start(found)).server;
    client = new ApiClient({ connection: kube.connection, clock, userAgent: 'test' });
    directory = temporaryDirectory();
    mkdirSync(path.join(directory, 'pool'));
    opened = await openDetachedPool(path.join(directory, 'pool'));
    await createDisk(opened, 'disk', 64 * MiB);
    writePattern(opened, 'disk', 7, 0, MiB);
    await opened.images.create({ name: 'default/golden', source: { kind: 'disk', id: 'disk' } });
    const source = { type: 'volumeSnapshot', volumeSnapshot: { name: 'any' } };
    for (const [name, node] of [
      ['golden', nodeName],
      ['far', 'worker-2'],
    ] as const) {
      const object = {
        apiVersion: groupVersion,
        kind: 'DiskImage',
        metadata: { name },
        spec: { nodeName: node, source },
      };
      await create(`/apis/${groupVersion}/namespaces/default/diskimages`, object);
    }
    log = new MemoryLogger();
    exports = createExports(await freePort());
    const validity = { now: new Date(), lifetimeMs: 3_600_000 };
    const authority = await makeAuthority(validity);
    const own = await issue(authority, { role: 'node', name: nodeName }, validity);
    await exports.serve({ ...own, authorities: [authority.certificate] });
  }, 240_000);
  afterAll(async () => {
    await exports?.close();
    await opened?.compactor.settled();
    await opened?.release();
    client?.close();
    await kube?.stop();
    if (directory) removeDirectory(directory);
  });

  it('gives the disk, and any part of it, to whom RBAC lets get the subresource export', async () => {
    const token = await tokenOf('backup', allowing('diskimages/export', 'get'));
    expect((await curl('golden/disk.qcow2', token)).status).toBe(200);
    const layer = opened.pool.chainLayer([...opened.pool.images.values()][0]?.layer ?? ('' as never));
    const out = path.join(directory, 'out');
    execFileSync('qemu-img', ['compare', '-f', 'qcow2', '-F', layer.format, out, layer.path]);
    const part = await curl('golden/disk.raw', token, '--range', '0-99');
    expect([part.status, part.head]).toEqual([206, expect.stringContaining(`content-range: bytes 0-99/${64 * MiB}`)]);
    expect(execFileSync('cat', [out]).equals(Buffer.alloc(100, 7))).toBe(true);
    const head = await curl('golden/disk.raw', token, '--head');
    expect(head.head).toMatch(/etag: ".+-raw"/);
    expect((await curl('none/disk.raw', token)).status).toBe(404);
    expect((await curl('far/disk.raw', token)).status).toBe(421);
    // It may not upload.
    expect((await curl('golden/upload', token, '--head')).status).toBe(403);
  });

  it('knows nobody without a token, nor by one that the API server does not know', async () => {
    expect((await curl('golden/disk.raw', undefined)).status).toBe(401);
    expect((await curl('golden/disk.raw', 'made-up')).status).toBe(401);
  });

  it('tells nothing to who may not, not even what there is', async () => {
    const token = await tokenOf('nobody');
    const reader = await tokenOf('reader', allowing('diskimages', 'get'));
    for (const name of ['golden', 'none', 'far']) {
      expect((await curl(`${name}/disk.raw`, token)).status).toBe(403);
      expect((await curl(`${name}/disk.raw`, reader)).status).toBe(403);
    }
  });

  it('knows who may have one image only, and who may upload', async () => {
    const one = await tokenOf('one', allowing('diskimages/export', 'get', { resourceNames: ['golden'] }));
    expect((await curl('golden/disk.raw', one, '--head')).status).toBe(200);
    expect((await curl('far/disk.raw', one)).status).toBe(403);
    const uploader = await tokenOf('uploader', allowing('diskimages/upload', 'update'));
    expect((await curl('golden/upload', uploader, '--head')).status).toBe(404);
    expect((await curl('golden/disk.raw', uploader)).status).toBe(403);
  });

  it('logs no token', async () => {
    const token = await tokenOf('logged', allowing('diskimages/export', 'get'));
    await curl('golden/disk.raw?access_token=tops3cret', token, '--range', '0-0');
    await curl('none/disk.raw?access_token=tops3cret', token);
    const text = JSON.stringify(log.entries);
    expect(text).toContain('exporting a disk');
    expect(text).not.toContain(token.slice(0, 20));
    expect(text).not.toContain('tops3cret');
  });
});
