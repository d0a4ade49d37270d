import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Below those that the kernel gives to outgoing connections, which would take one before it is listened on. */
const [first, last] = [10_000, 30_000];

/** The first of `count` consecutive TCP ports on which nobody listens on loopback. */
export async function freePort(count = 1): Promise<number> {
  const port = randomInt(first, last);
  const candidates = Array.from({ length: count }, (_, index) => port + index);
  const free = await Promise.all(candidates.map(isFree));
  return free.every(Boolean) ? port : freePort(count);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false;
    throw error;
  }
  await once(server.close(), 'close');
  return true;
}
