import { afterEach, beforeEach, expect, it } from 'vitest';
import { TokenBucket } from '../../../../src/lib/token-bucket.ts';
import { systemClock } from '../../../../src/lib/clock.ts';
import { issue, makeAuthority } from '../../../../src/transfer/identity/certificates.ts';
import type { Credentials } from '../../../../src/transfer/identity/credentials.ts';
import { describeRemote } from '../../../../src/transfer/layers/describe-remote.ts';
import { FrameParser, newFramePool } from '../../../../src/transfer/layers/layer-frames.ts';
import { LayerServer } from '../../../../src/transfer/layers/layer-server.ts';
import { layerFrames } from '../../../../src/transfer/layers/layer-stream.ts';
import { silentLogger } from '../../../fakes/silent-logger.ts';

let credentials: Credentials;
let server: LayerServer;
let port: number;

beforeEach(async () => {
  const validity = { now: new Date(), lifetimeMs: 3_600_000 };
  const authority = await makeAuthority(validity);
  const own = await issue(authority, { role: 'node', name: 'worker-1' }, validity);
  credentials = { ...own, authorities: [authority.certificate] };
  server = new LayerServer({
    credentials,
    pool: () => undefined,
    limit: new TokenBucket(Number.POSITIVE_INFINITY, systemClock),
    onReleased: () => {},
    begin: () => ({ addBytes: () => {}, end: () => {} }),
    logger: silentLogger,
  });
  ({ port } = await server.listen(0, '::'));
});
afterEach(() => server.close());

it.each(['[::1]', '127.0.0.1'])('a node that listens everywhere answers other nodes at %s', async (host) => {
  const peer = { node: 'worker-1', address: `${host}:${port}` };
  const connection = { peer, credentials, stallMs: 5000, signal: AbortSignal.timeout(10_000) };
  const nothing = { code: 'layer-not-found', message: expect.stringContaining('no pool fast') };
  await expect(describeRemote(connection, { pool: 'fast', kind: 'image', id: 'a' })).rejects.toMatchObject(nothing);
  const wanted = { pool: 'fast', id: 'l0123456789abcdef01234567', etag: 'ab', from: 0 };
  const frames = layerFrames(connection, wanted, new FrameParser(newFramePool(), 0, 1));
  await expect(frames.next()).rejects.toMatchObject(nothing);
});
