import { X509Certificate } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { certificateSigningRequestType } from '../../../../src/kube/kinds/certificate-requests.ts';
import { secretType } from '../../../../src/kube/kinds/core-kinds.ts';
import { ResourceClient } from '../../../../src/kube/client/resource-client.ts';
import { NodeCredentials } from '../../../../src/reconcile/node/node-credentials.ts';
import { newCertificateRequest } from '../../../../src/transfer/identity/certificates.ts';
import { ClusterScene, systemNamespace, until } from '../../../fakes/cluster-scene.ts';

let scene: ClusterScene;

beforeEach(async () => {
  scene = await ClusterScene.start();
});
afterEach(async () => {
  await scene.end();
});

const account = `system:serviceaccount:${systemNamespace}:lamina-node`;
const attested = { 'authentication.kubernetes.io/node-name': ['worker-1'] };

/** As the API server has it, which fills in who asks. */
async function ask(name: string, more: object = {}): Promise<void> {
  const { request } = await newCertificateRequest();
  scene.create(
    certificateSigningRequestType,
    { name },
    {
      signerName: 'lamina.storage/transfer',
      request: Buffer.from(request).toString('base64'),
      usages: ['digital signature', 'server auth', 'client auth'],
      username: account,
      extra: attested,
      ...more,
    },
  );
}

interface Status {
  certificate?: string;
  conditions?: { type: string; message: string }[];
}
const statusOf = (name: string) => (scene.find(certificateSigningRequestType, name)?.['status'] ?? {}) as Status;
const untilDecided = (name: string) =>
  until(() => statusOf(name).certificate !== undefined || statusOf(name).conditions?.[0]?.type === 'Denied');

describe('a request for a certificate', () => {
  it('of a node plugin is signed for the node that the API server attests', async () => {
    await ask('a');
    await scene.elect();
    await untilDecided('a');
    const chain = Buffer.from(statusOf('a').certificate ?? '', 'base64').toString();
    const [leaf, authority] = chain.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g) ?? [];
    const certificate = new X509Certificate(leaf ?? '');
    expect(certificate.subjectAltName).toContain('worker-1.node.lamina.storage');
    expect(certificate.verify(new X509Certificate(authority ?? '').publicKey)).toBe(true);
    expect(statusOf('a').conditions).toMatchObject([
      { type: 'Approved', message: expect.stringContaining('worker-1') },
    ]);
  });

  it.each([
    ['of somebody else', { username: 'system:serviceaccount:media:lamina-node' }, 'only system:serviceaccount'],
    ['of an administrator', { username: 'kubernetes-admin', extra: {} }, 'only system:serviceaccount'],
    ['from a token that is bound to no node', { extra: {} }, 'does not say on which node'],
    ['from a token of two nodes', { extra: { 'authentication.kubernetes.io/node-name': ['a', 'b'] } }, 'does not say'],
    ['that is none', { request: Buffer.from('hello').toString('base64') }, 'no certificate request'],
  ])('%s is denied, with a sentence', async (_, more, words) => {
    await ask('a', more);
    await scene.elect();
    await untilDecided('a');
    expect(statusOf('a').certificate).toBeUndefined();
    expect(statusOf('a').conditions).toMatchObject([{ type: 'Denied', message: expect.stringContaining(words) }]);
  });

  it('is signed by the same authority after a restart', async () => {
    await ask('a');
    const end = await scene.elect();
    await untilDecided('a');
    await end();
    const before = scene.find(secretType, 'lamina-transfer-authority')?.['data'];
    await ask('b');
    await scene.elect();
    await untilDecided('b');
    expect(scene.find(secretType, 'lamina-transfer-authority')?.['data']).toEqual(before);
  });

  it('is not signed where the authorities cannot be read, and these are left as they are', async () => {
    const data = { 'authorities.json': Buffer.from('{}').toString('base64') };
    const metadata = { name: 'lamina-transfer-authority', namespace: systemNamespace };
    scene.server.objects.create(
      { type: secretType, namespace: systemNamespace },
      { apiVersion: 'v1', kind: 'Secret', metadata, data },
    );
    await ask('a');
    await scene.elect();
    await scene.settle();
    expect(statusOf('a')).toEqual({});
    expect(scene.find(secretType, 'lamina-transfer-authority')?.['data']).toEqual(data);
  });
});

it('a node asks for its certificate, and shows it with all authorities', async () => {
  const client = scene.connect();
  const requests = new ResourceClient(client, certificateSigningRequestType);
  const { clock, logger } = scene;
  const got = Promise.withResolvers<void>();
  const onChange = async () => got.resolve();
  const credentials = new NodeCredentials({ requests, nodeName: 'worker-1', onChange, clock, random: () => 0, logger });
  expect(credentials.current).toThrow('has no certificate yet');
  scene.run((signal) => credentials.run(signal));
  await until(() => scene.server.objects.list(certificateSigningRequestType).length === 1);
  const [request] = scene.server.objects.list(certificateSigningRequestType);
  const { name } = request!.metadata;
  // The fake API server does not say who asks.
  scene.patch(certificateSigningRequestType, name, { spec: { username: account, extra: attested } });
  await scene.elect();
  await until(() => statusOf(name).certificate !== undefined);
  await until(() => {
    clock.advance(500);
    return scene.logger.entries.some(({ message }) => message.includes('got a certificate'));
  });
  await got.promise;
  expect(credentials.current()).toMatchObject({ authorities: [expect.stringContaining('BEGIN CERTIFICATE')] });
});

describe('a node that gets no certificate', () => {
  const allRequests = () => scene.server.objects.list(certificateSigningRequestType);
  function start(): void {
    const requests = new ResourceClient(scene.connect(), certificateSigningRequestType);
    const { clock, logger } = scene;
    const onChange = async () => {};
    const options = { requests, nodeName: 'worker-1', onChange, clock, random: () => 0, logger };
    scene.run((signal) => new NodeCredentials(options).run(signal));
  }
  /** From timer to timer. */
  async function passHours(hours: number): Promise<void> {
    for (const endMs = scene.clock.elapsedMs() + hours * 3_600_000; scene.clock.elapsedMs() < endMs; ) {
      await scene.settle();
      for (const { metadata } of allRequests()) {
        const status = { conditions: [{ type: 'Denied', message: 'no' }] };
        if (isDenied) scene.patch(certificateSigningRequestType, metadata.name, { status }, { subresource: 'status' });
      }
      scene.clock.advance(scene.clock.pending[0] ?? 0);
    }
  }
  let isDenied = false;

  it('as nobody is there to sign it, asks for one, and takes it when it comes', async () => {
    isDenied = false;
    start();
    await until(() => allRequests().length === 1);
    await passHours(2);
    expect(allRequests()).toHaveLength(1);
    const [{ metadata } = { metadata: { name: '' } }] = allRequests();
    scene.patch(certificateSigningRequestType, metadata.name, { spec: { username: account, extra: attested } });
    const end = await scene.elect();
    await until(() => statusOf(metadata.name).certificate !== undefined);
    await end();
    await passHours(0.1);
    expect(scene.logger.entries.some(({ message }) => message.includes('got a certificate'))).toBe(true);
  });

  it('as the API server cannot be reached yet, asks within seconds', async () => {
    const match = ({ method, path }: { method: string; path: string }) =>
      method === 'POST' && path.includes('certificatesigningrequests');
    scene.server.inject({ fault: { kind: 'status', status: 403 }, match });
    start();
    const hasFailed = () => scene.logger.entries.some(({ message }) => message.includes('no part in transfers yet'));
    await until(hasFailed);
    await until(() => scene.clock.pending.includes(1000));
    expect(allRequests()).toEqual([]);
    scene.clock.advance(1000);
    await until(() => allRequests().length === 1);
  });

  it('as it is denied, asks again less and less often', async () => {
    isDenied = true;
    start();
    await until(() => allRequests().length === 1);
    await passHours(4);
    expect(allRequests().length).toBeGreaterThan(4);
    expect(allRequests().length).toBeLessThan(12);
  });
});
