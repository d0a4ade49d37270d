import { once } from 'node:events';
import type { Server } from 'node:http';

/**
 * Resolves when the server listens; `port` 0 is any that is free. `::` is every address, those of IPv4 too, and only those
 * where the kernel has no IPv6.
 *
 * @throws the error of listen(), such as EADDRINUSE
 */
export async function listen(server: Server, where: { path: string } | { host: string; port: number }): Promise<void> {
  // Without a host Node does just that; with this one it fails where there is no IPv6.
  server.listen('host' in where && where.host === '::' ? { port: where.port } : where);
  await once(server, 'listening');
}

/** Takes no more connections, breaks those that are open, and resolves when all is closed. */
export async function close(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}
