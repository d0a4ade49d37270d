import { once } from 'node:events';
import { request } from 'node:https';
import { connect } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import type { Credentials } from '../../src/transfer/identity/credentials.ts';
import { memberName } from '../../src/transfer/identity/identity-names.ts';
import { removeDirectory, temporaryDirectory, writePattern } from '../detached-pool.ts';
import { fetchSnapshot, type TransferNode } from '../transfer-node.ts';
import { createDisk, hourMs, newAuthority, sentLayers, TransferScene } from '../transfer-scene.ts';

describe('nodes give layers to nodes of their cluster, and to nobody else', () => {
  let scene: TransferScene;
  let source: TransferNode;
  beforeEach(async () => {
    scene = await TransferScene.create(temporaryDirectory());
    source = await scene.addNode('source');
    await createDisk(source, 'a', 8 * MiB);
    writePattern(source, 'a', 1, 0, MiB);
    await source.disks.createSnapshot({ name: 's', diskId: 'a' });
  });
  afterEach(async () => {
    await scene.close();
    removeDirectory(scene.directory);
  });

  const longAgo = new Date(Date.now() - 5 * hourMs);
  const later = new Date(Date.now() + 5 * hourMs);
  const fetchAs = async (credentials: Credentials, node = source.peer.node) => {
    const target = await scene.addNode('target', { credentials });
    return fetchSnapshot({ ...source.peer, node }, target, 's');
  };

  it('gives them to a node', async () => {
    await fetchAs(await scene.credentials('target'));
    expect(sentLayers(source)).toHaveLength(1);
  });

  it.each([
    ['of another authority', async () => ({ issuer: await newAuthority() }), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
    ['that expired', async () => ({ now: longAgo }), 'CERT_HAS_EXPIRED'],
    ['that is not valid yet', async () => ({ now: later }), 'CERT_NOT_YET_VALID'],
  ])('closes the connection of a client with a certificate %s, and logs why', async (_, otherwise, reason) => {
    const fetched = fetchAs(await scene.credentials('target', await otherwise()));
    await expect(fetched).rejects.toMatchObject({ code: 'peer-unavailable' });
    expect(source.log.entries).toContainEqual(
      expect.objectContaining({ level: 'warn', fields: expect.objectContaining({ reason }) }),
    );
    expect(sentLayers(source)).toEqual([]);
  });

  it('refuses the controller', async () => {
    const fetched = fetchAs(await scene.credentials('target', { role: 'controller' }));
    await expect(fetched).rejects.toMatchObject({ code: 'peer-untrusted' });
  });

  it('refuses a client without a certificate, and one that speaks an old TLS', async () => {
    const { certificate, key, authorities } = await scene.credentials('target');
    const [host, port] = source.peer.address.split(':');
    const server = { host, port: Number(port), ca: [...authorities], servername: memberName('node', 'source') };
    const anonymous = request({ ...server, agent: false, path: '/v1/pools/fast/snapshots/s' }).end();
    const [failure] = (await once(anonymous, 'error')) as [NodeJS.ErrnoException];
    expect(failure.code).toMatch(/CERTIFICATE_REQUIRED|ECONNRESET|EPIPE/);
    const old = connect({ ...server, cert: certificate, key, maxVersion: 'TLSv1.2' });
    const [tooOld] = (await once(old, 'error')) as [NodeJS.ErrnoException];
    expect(tooOld.code).toContain('PROTOCOL_VERSION');
  });

  it('refuses a server that is another node than was meant', async () => {
    const fetched = fetchAs(await scene.credentials('target'), 'other');
    await expect(fetched).rejects.toMatchObject({ code: 'peer-untrusted' });
  });

  it.each([
    ['of another authority', async () => ({ issuer: await newAuthority() })],
    ['that expired', async () => ({ now: longAgo })],
    ['of the controller', async () => ({ role: 'controller' as const })],
  ])('refuses a server with a certificate %s', async (_, otherwise) => {
    source.server.replaceCredentials(await scene.credentials('source', await otherwise()));
    const fetched = fetchAs(await scene.credentials('target'));
    await expect(fetched).rejects.toMatchObject({ code: 'peer-untrusted' });
  });

  it('goes over to another authority while it runs: both work as long as both are trusted, then one', async () => {
    const next = await newAuthority();
    const trusted = [scene.authority, next];
    source.server.replaceCredentials(await scene.credentials('source', { trusted }));
    await fetchAs(await scene.credentials('target', { issuer: next, trusted }));
    const target = await scene.addNode('second', { credentials: await scene.credentials('second', { trusted }) });
    source.server.replaceCredentials(await scene.credentials('source', { issuer: next, trusted }));
    await fetchSnapshot(source.peer, target, 's');
    source.server.replaceCredentials(await scene.credentials('source', { issuer: next, trusted: [next] }));
    await expect(fetchSnapshot(source.peer, target, 's')).rejects.toMatchObject({ code: 'peer-unavailable' });
  });

  it('answers nothing but what it is for', async () => {
    const { certificate: cert, key, authorities } = await scene.credentials('target');
    const [host, port] = source.peer.address.split(':');
    const layer = source.pool.snapshot('s').layer;
    const statusOf = async (path: string, method = 'GET', headers = {}) => {
      const server = { host, port, ca: [...authorities], cert, key, servername: memberName('node', 'source') };
      const asked = request({ ...server, agent: false, path, method, headers }).end();
      const [response] = await once(asked, 'response');
      response.resume();
      return response.statusCode as number;
    };
    expect(await statusOf('/v1/pools/fast/snapshots/s')).toBe(200);
    expect(await statusOf('/v1/pools/fast/snapshots/s', 'DELETE')).toBe(400);
    expect(await statusOf('/v1/pools/fast/snapshots/..%2Fdisks%2Fa')).toBe(404);
    expect(await statusOf('/v1/pools/fast/layers/..%2Fpool.json', 'GET', { 'if-match': '"00"' })).toBe(400);
    expect(await statusOf(`/v1/pools/fast/layers/${source.pool.disk('a').head}`, 'GET', { 'if-match': '"00"' })).toBe(
      404,
    );
    expect(await statusOf(`/v1/pools/fast/layers/${layer}`)).toBe(400);
    expect(await statusOf(`/v1/pools/fast/layers/${layer}`, 'GET', { 'if-match': '"00"' })).toBe(412);
    expect(await statusOf(`/v1/pools/fast/layers/${layer}?from=-1`, 'GET', { 'if-match': '"00"' })).toBe(400);
    expect(await statusOf('/v1/pools/slow/snapshots/s')).toBe(404);
    expect(await statusOf('/v1/pools/%ff/snapshots/s')).toBe(400);
    expect(await statusOf('//[')).toBe(400);
    expect(await statusOf('/metrics')).toBe(400);
  });
});
