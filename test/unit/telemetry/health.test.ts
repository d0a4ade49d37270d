import { mkdtemp, rm, stat } from 'node:fs/promises';
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect as connectPlainly } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { connect as connectTls, type DetailedPeerCertificate, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type HealthServer, startHealthServer } from '../../../src/telemetry/health.ts';
import type { Verdict } from '../../../src/telemetry/health-answers.ts';
import { createNodeMetrics } from '../../../src/telemetry/metrics.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';
import { MemoryLogger } from '../../fakes/memory-logger.ts';

let directory: string;
let server: HealthServer | undefined;
let ready: () => Promise<boolean>;
let authorize: ((token: string) => Promise<Verdict>) | undefined;
let clock: ManualClock;
let logger: MemoryLogger;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'lamina-health-'));
  ready = async () => true;
  authorize = undefined;
  clock = new ManualClock();
  logger = new MemoryLogger();
});

afterEach(async () => {
  await server?.stop();
  server = undefined;
  await rm(directory, { recursive: true });
});

const optionsOf = (listen: string) => ({
  listen,
  ready: () => ready(),
  metrics: createNodeMetrics({ version: '1.2.3', clock, logger }).registry,
  authorize,
  clock,
  logger,
});

async function start(listen: string): Promise<HealthServer> {
  server = await startHealthServer(optionsOf(listen));
  return server;
}

describe('on a unix socket', () => {
  const socketPath = () => path.join(directory, 'health.sock');
  const ask = (url: string) => request({ socketPath: socketPath(), path: url });

  it('answers /healthz while the process runs, ready or not', async () => {
    await start(`unix://${socketPath()}`);
    ready = async () => false;
    expect(await ask('/healthz')).toMatchObject({ status: 200, body: 'ok\n' });
  });

  it('answers /readyz as it is: starting, ready, or broken with the reason', async () => {
    await start(socketPath());
    expect(await ask('/readyz')).toMatchObject({ status: 200 });
    ready = async () => false;
    expect(await ask('/readyz')).toMatchObject({ status: 503, body: 'starting\n' });
    ready = async () => {
      throw new Error('the supervisor is gone');
    };
    expect(await ask('/readyz')).toMatchObject({ status: 503, body: 'the supervisor is gone\n' });
  });

  it('answers /metrics for Prometheus', async () => {
    await start(socketPath());
    const { status, body, type } = await ask('/metrics');
    expect(status).toBe(200);
    expect(type).toContain('text/plain; version=0.0.4');
    expect(body).toContain('# TYPE lamina_csi_call_duration_seconds histogram');
  });

  it('knows nothing else', async () => {
    await start(socketPath());
    expect(await ask('/')).toMatchObject({ status: 404 });
  });

  it('is open to its user only, and removes the socket when it stops', async () => {
    await start(socketPath());
    expect((await stat(socketPath())).mode & 0o777).toBe(0o600);
    await server?.stop();
    server = undefined;
    await expect(stat(socketPath())).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('refuses a socket that another process listens on', async () => {
    await start(socketPath());
    await expect(startHealthServer(optionsOf(socketPath()))).rejects.toMatchObject({ code: 'socket-in-use' });
  });
});

describe('on a port of this machine', () => {
  it.each(['127.0.0.1:0', 'localhost:0'])('at %s it answers everybody, by HTTP', async (listen) => {
    authorize = async () => 'unauthenticated';
    const { address } = await start(listen);
    const port = Number(/:(\d+)$/.exec(address)?.[1]);
    expect(await request({ host: 'localhost', port, path: '/healthz' })).toMatchObject({ status: 200 });
    expect(await request({ host: 'localhost', port, path: '/metrics' })).toMatchObject({ status: 200 });
  });

  it.each(['0.0.0.0:9090', '[::]:9090', '192.168.1.5:9090', 'example.org:9090'])(
    'at %s, which others reach, it listens only where somebody says who may read metrics',
    async (listen) => {
      await expect(start(listen)).rejects.toMatchObject({ code: 'invalid-parameter' });
    },
  );

  it.each([':9090', '9090', '127.0.0.1:99999', '127.0.0.1:', '::1:9090', 'a b:1', 'user@host:1/x'])(
    'at %s it does not listen, as that is no address',
    async (listen) => {
      authorize = async () => 'allowed';
      await expect(start(listen)).rejects.toMatchObject({ code: 'invalid-parameter' });
    },
  );
});

describe('on a port that others reach', () => {
  let port: number;
  const ask = (url: string, headers: OutgoingHttpHeaders = {}, method = 'GET') =>
    request({ host: '127.0.0.1', port, path: url, headers, method, tls: true });
  const asks = (token: string) => ask('/metrics', { authorization: `Bearer ${token}` });

  beforeEach(async () => {
    authorize = async (token) =>
      token === 'scraper' ? 'allowed' : token === 'somebody' ? 'forbidden' : 'unauthenticated';
    const { address } = await start('0.0.0.0:0');
    port = Number(/:(\d+)$/.exec(address)?.[1]);
  });

  it('tells everybody by HTTPS whether it runs and is ready, but not why it is not', async () => {
    expect(await ask('/healthz')).toMatchObject({ status: 200, body: 'ok\n' });
    expect(await ask('/readyz')).toMatchObject({ status: 200, body: 'ok\n' });
    ready = async () => {
      throw new Error('the pool at /srv/secret is gone');
    };
    expect(await ask('/readyz')).toMatchObject({ status: 503, body: 'not ready; the log says why\n' });
    await ask('/readyz');
    expect(logger.entries).toEqual([expect.objectContaining({ level: 'warn', message: 'not ready' })]);
  });

  it('gives metrics to the bearer of a token who may get them', async () => {
    expect(await asks('scraper')).toMatchObject({ status: 200, body: expect.stringContaining('lamina_build_info') });
  });

  it('answers 403 to those who may not, and 401 to those whom nobody knows or who do not say who they are', async () => {
    expect(await asks('somebody')).toMatchObject({ status: 403 });
    expect(await asks('made-up')).toMatchObject({ status: 401 });
    expect(await ask('/metrics')).toMatchObject({ status: 401, headers: { 'www-authenticate': 'Bearer' } });
    expect(await ask('/metrics', { authorization: 'Basic c2NyYXBlcg==' })).toMatchObject({ status: 401 });
    expect(await ask('/metrics', { authorization: 'Bearer scraper extra' })).toMatchObject({ status: 401 });
  });

  it('gives no metrics while it cannot be told who asks, says that it is not for good, and logs no token', async () => {
    await server?.stop();
    authorize = async () => {
      throw new Error('the API server is away');
    };
    const { address } = await start('0.0.0.0:0');
    port = Number(/:(\d+)$/.exec(address)?.[1]);
    expect(await asks('scraper')).toMatchObject({ status: 503 });
    expect(await asks('scraper')).toMatchObject({ status: 503 });
    expect(logger.entries).toHaveLength(1);
    expect(JSON.stringify(logger.entries)).not.toContain('scraper');
  });

  it('takes nothing but reading', async () => {
    expect(await ask('/metrics', {}, 'POST')).toMatchObject({ status: 405 });
    expect(await ask('/healthz', {}, 'HEAD')).toMatchObject({ status: 200, body: '' });
    expect(await ask('/')).toMatchObject({ status: 404 });
  });

  it('cuts off headers that are too long', async () => {
    expect(await asks('x'.repeat(20_000))).toMatchObject({ status: 431 });
  });

  it('speaks nothing but TLS', async () => {
    const socket = connectPlainly(port, '127.0.0.1');
    socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n');
    expect(await text(socket).catch(() => '')).not.toContain('200');
  });

  it('looks once when many ask whether it is ready', async () => {
    let looks = 0;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    ready = () => {
      looks++;
      return promise;
    };
    const answers = Promise.all(Array.from({ length: 20 }, () => ask('/readyz')));
    // All are there when the last one that was sent before is answered.
    await ask('/healthz');
    resolve(true);
    expect((await answers).every(({ status }) => status === 200)).toBe(true);
    expect(looks).toBeLessThan(20);
  });

  it('has a certificate for itself, and another one a month before it expires', async () => {
    const first = await certificateOf(port);
    expect(first.subjectaltname).toContain('DNS:localhost');
    expect(first.issuer).toEqual(first.subject);
    const days = (Date.parse(first.valid_to) - clock.now().getTime()) / 86_400_000;
    expect(days).toBeCloseTo(90, 1);
    clock.advance(59 * 86_400_000);
    expect((await certificateOf(port)).serialNumber).toBe(first.serialNumber);
    for (let day = 0; day < 2; day++) {
      clock.advance(86_400_000);
      // The renewal that is due ends before the next timer is set.
      await expect.poll(() => clock.pending.length).toBe(1);
    }
    const second = await certificateOf(port);
    expect(second.serialNumber).not.toBe(first.serialNumber);
    expect(await ask('/healthz')).toMatchObject({ status: 200 });
  });

  it('leaves no timer behind when it stops', async () => {
    await server?.stop();
    server = undefined;
    expect(clock.pending).toEqual([]);
  });
});

async function certificateOf(port: number): Promise<DetailedPeerCertificate> {
  const { promise, resolve, reject } = Promise.withResolvers<DetailedPeerCertificate>();
  const socket: TLSSocket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
    resolve(socket.getPeerCertificate(true));
    socket.destroy();
  });
  socket.on('error', reject);
  return promise;
}

interface TestRequest {
  path: string;
  socketPath?: string;
  host?: string;
  port?: number;
  method?: string;
  headers?: OutgoingHttpHeaders;
  tls?: boolean;
}

async function request({ tls, ...options }: TestRequest) {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const send = tls ? httpsRequest : httpRequest;
  send({ ...options, agent: false, rejectUnauthorized: false }, resolve)
    .on('error', reject)
    .end();
  const { statusCode, headers, ...response } = await promise.then((found) => ({
    statusCode: found.statusCode,
    headers: found.headers,
    body: text(found),
  }));
  return { status: statusCode, headers, type: headers['content-type'], body: await response.body };
}
