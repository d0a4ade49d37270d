import { once } from 'node:events';
import type { Server } from 'node:http';

/** Resolves when the server listens; `port` 0 is any that is free. @throws the error of listen(), such as EADDRINUSE */
export async function listen(server: Server, where: { path: string } | { host: string; port: number }): Promise<void> {
  server.listen(where);
  await once(server, 'listening');
}

/** Takes no more connections, breaks those that are open, and resolves when all is closed. */
export async function close(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}
