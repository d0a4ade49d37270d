import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ApiClient } from '../../../../src/kube/client/client.ts';
import type { Connection } from '../../../../src/kube/client/connection.ts';
import { inClusterConnection } from '../../../../src/kube/client/in-cluster.ts';
import { kubeconfigConnection } from '../../../../src/kube/client/kubeconfig.ts';
import { FakeApiServer, type FakeApiServerOptions } from '../../../fakes/api-server.ts';
import { type Certificate, selfSignedCertificate } from '../../../fakes/certificate.ts';
import { thingType } from '../../../fakes/kube-scene.ts';
import { ManualClock } from '../../../fakes/manual-clock.ts';

let directory: string;
let server: FakeApiServer | undefined;
let certificate: Certificate;
const clock = new ManualClock();

beforeAll(() => {
  certificate = selfSignedCertificate('kubernetes.example');
});

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'lamina-connection-'));
});

afterEach(async () => {
  await server?.stop();
  server = undefined;
  await rm(directory, { recursive: true });
});

async function serve(tls: FakeApiServerOptions['tls'] = certificate): Promise<FakeApiServer> {
  server = new FakeApiServer({ types: [thingType], ...(tls ? { tls } : {}) });
  await server.start();
  return server;
}

/** Lists things: resolves where the connection is good. */
async function use(connection: Connection): Promise<unknown> {
  const client = new ApiClient({ connection, clock, userAgent: 'lamina/test' });
  try {
    return await client.request({ method: 'GET', path: '/apis/test.lamina.storage/v1/things' });
  } finally {
    client.close();
  }
}

async function writeKubeconfig(cluster: object, user: object, more: object = {}): Promise<string> {
  const file = path.join(directory, 'kubeconfig');
  const config = {
    'current-context': 'c',
    contexts: [{ name: 'c', context: { cluster: 'k', user: 'u', namespace: 'lamina-system' } }],
    clusters: [{ name: 'k', cluster }],
    users: [{ name: 'u', user }],
    ...more,
  };
  await writeFile(file, JSON.stringify(config));
  return file;
}

const base64 = (text: string) => Buffer.from(text).toString('base64');

describe('a kubeconfig', () => {
  it('connects with a CA and a token from files beside it', async () => {
    const { connection, tokens } = await serve();
    tokens.add('secret');
    await mkdir(path.join(directory, 'pki'));
    await writeFile(path.join(directory, 'pki/ca.crt'), certificate.cert);
    await writeFile(path.join(directory, 'token'), 'secret\n');
    const cluster = { server: connection.server.href, 'certificate-authority': 'pki/ca.crt' };
    const read = await kubeconfigConnection(await writeKubeconfig(cluster, { tokenFile: 'token' }), clock);
    expect(read.namespace).toBe('lamina-system');
    await expect(use(read)).resolves.toMatchObject({ items: [] });
  });

  it('connects with embedded certificates, of the client too, as in YAML as kubectl writes it', async () => {
    const client = selfSignedCertificate('client');
    const { connection } = await serve({ ...certificate, ca: client.cert });
    const file = path.join(directory, 'kubeconfig');
    await writeFile(
      file,
      `apiVersion: v1
kind: Config
current-context: kind-x
clusters:
- cluster:
    certificate-authority-data: ${base64(certificate.cert)}
    server: ${connection.server.origin}
  name: kind-x
contexts:
- context: {cluster: kind-x, user: kind-x}
  name: kind-x
users:
- name: kind-x
  user:
    client-certificate-data: ${base64(client.cert)}
    client-key-data: ${base64(client.key)}
preferences: {}
`,
    );
    const read = await kubeconfigConnection(file, clock);
    expect(read.namespace).toBe('default');
    await expect(use(read)).resolves.toMatchObject({ items: [] });
    await expect(use({ ...read, clientCertificate: undefined })).rejects.toMatchObject({ code: 'api-unavailable' });
  });

  it('does not connect to a server with a certificate of somebody else, or of another name, unless told to', async () => {
    const { connection } = await serve();
    const other = selfSignedCertificate('kubernetes.example');
    const reach = (more: object) => ({ server: connection.server.href, ...more });
    const connect = async (cluster: object) =>
      use(await kubeconfigConnection(await writeKubeconfig(cluster, {}), clock));
    const data = (pem: string) => ({ 'certificate-authority-data': base64(pem) });
    await expect(connect(reach(data(other.cert)))).rejects.toMatchObject({ code: 'api-unavailable' });
    await expect(connect(reach({}))).rejects.toMatchObject({ code: 'api-unavailable' });
    const misnamed = { ...data(certificate.cert), 'tls-server-name': 'other.example' };
    await expect(connect(reach(misnamed))).rejects.toMatchObject({ message: expect.stringContaining('other.example') });
    const named = { ...data(certificate.cert), 'tls-server-name': 'kubernetes.example' };
    await expect(connect(reach(named))).resolves.toBeDefined();
    await expect(connect(reach({ 'insecure-skip-tls-verify': true }))).resolves.toBeDefined();
  });

  it.each([
    ['an exec plugin', { exec: { command: 'aws' } }, 'exec is not supported: use a token or a client certificate'],
    ['a password', { username: 'x', password: 'y' }, 'a password is not supported'],
    ['an auth provider', { 'auth-provider': { name: 'oidc' } }, 'auth-provider is not supported'],
  ])('with %s is refused', async (_, user, message) => {
    const file = await writeKubeconfig({ server: 'https://127.0.0.1:1' }, user);
    await expect(kubeconfigConnection(file, clock)).rejects.toMatchObject({
      code: 'invalid-parameter',
      message: expect.stringContaining(message),
    });
  });

  it.each([
    ['no such context', { 'current-context': 'x' }, "its current-context 'x' is not among its contexts"],
    ['no such cluster', { clusters: [] }, "it has no cluster 'k'"],
    ['no clusters at all', { clusters: null }, 'clusters'],
    ['a server that is no URL', { clusters: [{ name: 'k', cluster: { server: 'localhost' } }] }, 'server'],
  ])('with %s is refused, by its file name', async (_, more, message) => {
    const file = await writeKubeconfig({ server: 'https://127.0.0.1:1' }, {}, more);
    const failure = await kubeconfigConnection(file, clock).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'invalid-parameter', message: expect.stringContaining(message) });
    expect(failure).toMatchObject({ message: expect.stringContaining(file) });
  });

  it('that is not there, or no YAML, is refused', async () => {
    await expect(kubeconfigConnection('/nowhere/config', clock)).rejects.toMatchObject({ code: 'invalid-parameter' });
    const file = path.join(directory, 'broken');
    await writeFile(file, '{]');
    await expect(kubeconfigConnection(file, clock)).rejects.toMatchObject({ code: 'invalid-parameter' });
  });
});

describe('a pod', () => {
  async function mountServiceAccount(): Promise<void> {
    await writeFile(path.join(directory, 'ca.crt'), certificate.cert);
    await writeFile(path.join(directory, 'token'), 'secret');
    await writeFile(path.join(directory, 'namespace'), 'lamina-system\n');
  }

  it('connects as its service account, to the address that kubelet names', async () => {
    const { connection, tokens } = await serve();
    tokens.add('secret');
    await mountServiceAccount();
    const { hostname: host, port } = connection.server;
    const found = await inClusterConnection({ host, port, directory }, clock);
    expect(found.namespace).toBe('lamina-system');
    await expect(use(found)).resolves.toMatchObject({ items: [] });
  });

  it('connects to an IPv6 address', async () => {
    await mountServiceAccount();
    const { server: url } = await inClusterConnection({ host: 'fd00::1', port: '443', directory }, clock);
    expect(url.href).toBe('https://[fd00::1]/');
  });

  it('takes a CA that was replaced from the next minute on', async () => {
    await mountServiceAccount();
    const old = certificate;
    const { connection } = await serve(selfSignedCertificate('kubernetes.example'));
    const { hostname: host, port } = connection.server;
    const found = await inClusterConnection({ host, port, directory }, clock);
    await expect(use(found)).rejects.toMatchObject({ code: 'api-unavailable' });
    await server?.stop();
    server = undefined;
    const renewed = await serve(old);
    clock.advance(60_000);
    const { port: newPort } = renewed.connection.server;
    await expect(use({ ...found, server: new URL(`https://${host}:${newPort}`) })).resolves.toBeDefined();
  });

  it('without a service account is told so', async () => {
    await expect(inClusterConnection({ host: '10.0.0.1', port: '443', directory }, clock)).rejects.toMatchObject({
      code: 'invalid-parameter',
      message: expect.stringContaining('automountServiceAccountToken'),
    });
    await mountServiceAccount();
    await expect(inClusterConnection({ host: '', port: '', directory }, clock)).rejects.toMatchObject({
      code: 'invalid-parameter',
    });
  });
});
