import { createServer, type Server, type ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Clock } from '../lib/clock.ts';
import { LaminaError } from '../lib/errors.ts';
import { close, listen } from '../lib/http-server.ts';
import { listenPrivately } from '../lib/unix-socket.ts';
import { type AnswerOptions, type Authorize, HealthAnswers } from './health-answers.ts';
import { parseListenAddress, type PortAddress } from './listen-address.ts';
import { keepServerCertificate } from './server-certificate.ts';

export interface HealthOptions extends AnswerOptions {
  /** As parseListenAddress reads it. */
  listen: string;
  /** Who may read metrics where other machines can ask. Without it only this machine can. */
  authorize?: Authorize | undefined;
  clock: Clock;
}

export interface HealthServer {
  /** The socket's path, or `127.0.0.1:9090`. */
  readonly address: string;
  stop(): Promise<void>;
}

/** A scraper and kubelet need a few connections; whoever keeps more open, or sends slowly, is cut off. */
const limits: ServerOptions = {
  maxHeaderSize: 16_384,
  headersTimeout: 10_000,
  requestTimeout: 10_000,
  connectionsCheckingInterval: 5000,
  keepAliveTimeout: 30_000,
};
const handshakeTimeoutMs = 10_000;
const maxConnections = 64;

/**
 * Serves `/healthz` (the process answers), `/readyz` (it can serve volumes) and `/metrics`. Where only this machine can
 * ask, by HTTP to whoever does. Elsewhere by HTTPS with a certificate that it makes itself, and metrics only to those
 * who are authorized.
 *
 * @throws LaminaError `invalid-parameter` for what is no address, or one that others can reach without `authorize`; `socket-in-use`
 */
export async function startHealthServer(options: HealthOptions): Promise<HealthServer> {
  const address = parseListenAddress(options.listen);
  if (address.kind === 'network') return serveNetwork(options, address);
  const answers = new HealthAnswers({ ...options, authorize: undefined });
  const server = createServer(limits, (request, response) => void answers.reply(request, response));
  if (address.kind === 'loopback') {
    await listen(server, address);
    return { address: addressOf(server), stop: () => close(server) };
  }
  const removeSocket = await listenPrivately(address.path, (temporaryPath) => listen(server, { path: temporaryPath }));
  return {
    address: address.path,
    stop: async () => {
      await removeSocket();
      await close(server);
    },
  };
}

async function serveNetwork(options: HealthOptions, { host, port }: PortAddress<'network'>): Promise<HealthServer> {
  const { clock, logger } = options;
  if (!options.authorize) {
    throw new LaminaError(
      'invalid-parameter',
      `'${options.listen}' can be reached from other machines, and there is nobody here to say who may read metrics; use 127.0.0.1:PORT or a unix socket`,
    );
  }
  const answers = new HealthAnswers(options);
  const tls = { ...limits, handshakeTimeout: handshakeTimeoutMs };
  const server = createTlsServer(tls, (request, response) => void answers.reply(request, response));
  server.maxConnections = maxConnections;
  const endRenewal = await keepServerCertificate({
    host,
    clock,
    logger,
    use: ({ certificate: cert, key }) => server.setSecureContext({ cert, key }),
  });
  try {
    await listen(server, { host, port });
  } catch (error) {
    endRenewal();
    throw error;
  }
  return {
    address: addressOf(server),
    stop: async () => {
      endRenewal();
      await close(server);
    },
  };
}

function addressOf(server: Server): string {
  const { address, port, family } = server.address() as AddressInfo;
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`;
}
