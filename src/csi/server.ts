import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { ControllerService, IdentityService, NodeService as NodeServiceDefinition } from '../gen/csi.ts';
import type { Logger } from '../lib/logger.ts';
import { listenPrivately, socketPathOf } from '../lib/unix-socket.ts';
import { controllerMethods, type ControllerContext } from './controller/controller.ts';
import { type IdentityContext, identityMethods } from './identity/identity.ts';
import { type NodeContext, nodeMethods } from './node/node.ts';
import { OperationLocks } from './operation-locks.ts';
import { type FinishedCall, implement, type RpcHost } from './rpc.ts';

export interface CsiServerOptions {
  /** `unix:///path` or an absolute path. */
  endpoint: string;
  identity: IdentityContext;
  /** Left out where this process is not a controller. */
  controller?: Omit<ControllerContext, 'locks'>;
  /** Left out where this process is not a node. */
  node?: Omit<NodeContext, 'locks'>;
  logger: Logger;
  /** Called once per finished RPC. */
  onCall: (call: FinishedCall) => void;
}

export interface CsiServer {
  readonly socketPath: string;
  /**
   * Takes no new calls, and lets the running ones end for up to `graceMs`.
   *
   * @returns whether all did; those that did not go on without their callers
   */
  stop(graceMs: number): Promise<boolean>;
}

/**
 * Serves CSI on a unix socket of mode 0600.
 *
 * @throws LaminaError `socket-in-use` where another process listens there; `invalid-parameter` for a path that cannot be a socket's
 */
export async function startCsiServer(options: CsiServerOptions): Promise<CsiServer> {
  const socketPath = socketPathOf(options.endpoint);
  const running: RpcHost['running'] = new Set();
  const server = createServer(options, { logger: options.logger, onCall: options.onCall, running });
  const bind = promisify(server.bindAsync.bind(server));
  const removeSocket = await listenPrivately(socketPath, async (temporaryPath) => {
    await bind(`unix:${temporaryPath}`, ServerCredentials.createInsecure());
  }).catch((error: unknown) => {
    server.forceShutdown();
    throw error;
  });
  options.logger.info({ socketPath }, 'serving CSI');
  return {
    socketPath,
    stop: async (graceMs) => {
      await removeSocket();
      return shutDown(server, running, graceMs);
    },
  };
}

function createServer(options: CsiServerOptions, host: RpcHost): Server {
  const server = new Server();
  const locks = new OperationLocks();
  server.addService(IdentityService, implement(IdentityService, identityMethods(options.identity), host));
  if (options.controller) {
    const methods = controllerMethods({ ...options.controller, locks });
    server.addService(ControllerService, implement(ControllerService, methods, host));
  }
  if (options.node) {
    const methods = nodeMethods({ ...options.node, locks });
    server.addService(NodeServiceDefinition, implement(NodeServiceDefinition, methods, host));
  }
  return server;
}

async function shutDown(server: Server, running: RpcHost['running'], graceMs: number): Promise<boolean> {
  const gone = promisify(server.tryShutdown.bind(server))();
  // Operations whose callers are gone are no calls to the server any more.
  const ended = gone.then(() => Promise.all(running)).then(() => true);
  const patience = new AbortController();
  const late = delay(graceMs, false, { signal: patience.signal }).catch(() => false);
  const inTime = await Promise.race([ended, late]);
  patience.abort();
  server.forceShutdown();
  return inTime;
}
