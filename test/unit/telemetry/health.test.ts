import { mkdtemp, rm, stat } from 'node:fs/promises';
import { get, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type HealthServer, startHealthServer } from '../../../src/telemetry/health.ts';
import { createMetrics } from '../../../src/telemetry/metrics.ts';
import { silentLogger } from '../../fakes/silent-logger.ts';

let directory: string;
let server: HealthServer | undefined;
let ready: () => Promise<boolean>;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'lamina-health-'));
  ready = async () => true;
});

afterEach(async () => {
  await server?.stop();
  server = undefined;
  await rm(directory, { recursive: true });
});

async function start(listen: string): Promise<HealthServer> {
  server = await startHealthServer({
    listen,
    ready: () => ready(),
    metrics: createMetrics().registry,
    logger: silentLogger,
  });
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
    const options = {
      listen: socketPath(),
      ready: () => ready(),
      metrics: createMetrics().registry,
      logger: silentLogger,
    };
    await expect(startHealthServer(options)).rejects.toMatchObject({ code: 'socket-in-use' });
  });
});

describe('on a port', () => {
  it.each(['127.0.0.1:0', 'localhost:0'])('listens on %s, which only this machine reaches', async (listen) => {
    const { address } = await start(listen);
    const port = Number(/:(\d+)$/.exec(address)?.[1]);
    expect(await request({ host: 'localhost', port, path: '/healthz' })).toMatchObject({ status: 200 });
  });

  it.each(['0.0.0.0:9090', '[::]:9090', '192.168.1.5:9090', ':9090', '9090', 'example.org:9090'])(
    'refuses %s',
    async (listen) => {
      await expect(start(listen)).rejects.toMatchObject({ code: 'invalid-parameter' });
    },
  );
});

async function request(options: { path: string; socketPath?: string; host?: string; port?: number }) {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  get(options, resolve).on('error', reject);
  const response = await promise;
  return { status: response.statusCode, type: response.headers['content-type'], body: await text(response) };
}
