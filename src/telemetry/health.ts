import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { LaminaError, messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { listenPrivately, socketPathOf } from '../lib/unix-socket.ts';
import type { Metrics } from './metrics.ts';

export interface HealthOptions {
  /** A unix socket (`unix:///path`, `/path`), or a port of the loopback interface (`127.0.0.1:9090`, `[::1]:9090`; 0 for any). */
  listen: string;
  /** As for CSI's Probe: false while starting, throws where something is wrong. */
  ready: () => Promise<boolean>;
  metrics: Pick<Metrics['registry'], 'contentType' | 'metrics'>;
  logger: Logger;
}

export interface HealthServer {
  /** The socket's path, or `127.0.0.1:9090`. */
  readonly address: string;
  stop(): Promise<void>;
}

/**
 * Serves `/healthz` (the process answers), `/readyz` (it can serve volumes) and `/metrics`. There is no authentication,
 * so it listens only where this machine alone can ask.
 *
 * @throws LaminaError `invalid-parameter` for an address that others could reach; `socket-in-use`
 */
export async function startHealthServer(options: HealthOptions): Promise<HealthServer> {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000 }, (request, response) => {
    answer(request.url ?? '/', options, response).catch((error: unknown) => {
      options.logger.error({ error, url: request.url }, 'health request failed');
      reply(response, 500, `${messageOf(error)}\n`);
    });
  });
  const loopback = loopbackAddressOf(options.listen);
  if (loopback) {
    await listen(server, loopback);
    const { address, port, family } = server.address() as AddressInfo;
    return { address: family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`, stop: () => close(server) };
  }
  const socketPath = socketPathOf(options.listen);
  const removeSocket = await listenPrivately(socketPath, (temporaryPath) => listen(server, { path: temporaryPath }));
  return {
    address: socketPath,
    stop: async () => {
      await removeSocket();
      await close(server);
    },
  };
}

async function answer(url: string, { ready, metrics }: HealthOptions, response: ServerResponse): Promise<void> {
  const [path] = url.split('?');
  switch (path) {
    case '/healthz':
      return reply(response, 200, 'ok\n');
    case '/readyz':
      return answerReadiness(ready, response);
    case '/metrics':
      return reply(response, 200, await metrics.metrics(), metrics.contentType);
    default:
      return reply(response, 404, 'there are /healthz, /readyz and /metrics\n');
  }
}

async function answerReadiness(ready: HealthOptions['ready'], response: ServerResponse): Promise<void> {
  try {
    if (await ready()) reply(response, 200, 'ok\n');
    else reply(response, 503, 'starting\n');
  } catch (error) {
    reply(response, 503, `${messageOf(error)}\n`);
  }
}

function reply(
  response: ServerResponse,
  status: number,
  body: string,
  contentType = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': contentType });
  response.end(body);
}

function loopbackAddressOf(address: string): { host: string; port: number } | undefined {
  const match = /^(?<host>.+):(?<port>\d+)$/.exec(address);
  if (!match?.groups || address.startsWith('/') || address.startsWith('unix:')) return undefined;
  const host = match.groups['host']?.replace(/^\[(.*)\]$/, '$1') ?? '';
  const port = Number(match.groups['port']);
  if ((host === '::1' || host === 'localhost' || /^127\.\d+\.\d+\.\d+$/.test(host)) && port <= 65_535)
    return { host, port };
  throw new LaminaError(
    'invalid-parameter',
    `'${address}' can be reached from other machines, and there is no authentication; use 127.0.0.1:PORT or a unix socket`,
  );
}

async function listen(server: Server, where: { path: string } | { host: string; port: number }): Promise<void> {
  server.listen(where);
  // Rejects with the error of listen().
  await once(server, 'listening');
}

async function close(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}
