import { chmod, link, lstat, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import { errnoOf, ifErrno, LaminaError } from './errors.ts';

/** Linux allows 108 bytes with the final zero. */
const maxSocketPathBytes = 107;
const connectTimeoutMs = 2000;

/** The path of `unix:///run/x.sock`, `unix:/run/x.sock` or `/run/x.sock`. @throws LaminaError `invalid-parameter` for anything else */
export function socketPathOf(endpoint: string): string {
  const socketPath = endpoint.replace(/^unix:(\/\/(?=\/))?/, '');
  if (!path.isAbsolute(socketPath)) {
    throw new LaminaError(
      'invalid-parameter',
      `'${endpoint}' is no unix socket; give an absolute path, or unix:///path`,
    );
  }
  return path.normalize(socketPath);
}

/**
 * Listens at `socketPath` for this user alone (mode 0600), never for a moment with more rights: the socket is bound in
 * a private directory and linked to its place when it is ready. Makes the directory; removes a socket nobody answers
 * on, as a crash leaves it.
 *
 * @param listen makes the server listen at the path it is given
 * @returns a function that removes the socket file, where it is still ours
 * @throws LaminaError `socket-in-use` where somebody answers, or something else is there; `invalid-parameter` for too long a path
 */
export async function listenPrivately(
  socketPath: string,
  listen: (temporaryPath: string) => Promise<void>,
): Promise<() => Promise<void>> {
  const directory = path.dirname(socketPath);
  assertShortEnough(socketPath);
  await mkdir(directory, { recursive: true, mode: 0o750 });
  await removeStaleSocket(socketPath);
  const privateDirectory = await mkdtemp(`${directory}/.`);
  try {
    const temporaryPath = path.join(privateDirectory, 's');
    await listen(temporaryPath);
    await chmod(temporaryPath, 0o600);
    await link(temporaryPath, socketPath).catch((error: unknown) => {
      throw errnoOf(error) === 'EEXIST' ? inUse(socketPath, 'another process has just begun to listen there') : error;
    });
  } finally {
    await rm(privateDirectory, { recursive: true, force: true });
  }
  const { ino } = await lstat(socketPath);
  return async () => {
    const now = await lstat(socketPath).catch(ifErrno('ENOENT', null));
    if (now?.ino === ino) await rm(socketPath, { force: true });
  };
}

function assertShortEnough(socketPath: string): void {
  // `.XXXXXX/s` is where it is bound first.
  const excess =
    Buffer.byteLength(path.dirname(socketPath)) +
    Math.max(path.basename(socketPath).length, 9) +
    1 -
    maxSocketPathBytes;
  if (excess <= 0) return;
  throw new LaminaError(
    'invalid-parameter',
    `socket path ${socketPath}: ${excess} bytes too long, since Linux takes ${maxSocketPathBytes}; choose a shorter one`,
  );
}

async function removeStaleSocket(socketPath: string): Promise<void> {
  const found = await lstat(socketPath).catch(ifErrno('ENOENT', null));
  if (!found) return;
  if (!found.isSocket()) throw inUse(socketPath, 'it is something else than a socket');
  if (await isAnswered(socketPath)) throw inUse(socketPath, 'another process listens there');
  await rm(socketPath, { force: true });
}

function inUse(socketPath: string, found: string): LaminaError {
  return new LaminaError(
    'socket-in-use',
    `cannot listen on ${socketPath}: ${found}; stop it, remove it, or choose another path`,
  );
}

/** Whether a process accepts connections there. One that is too busy to do so at once is there all the same. */
async function isAnswered(socketPath: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const socket = connect(socketPath);
  socket.setTimeout(connectTimeoutMs, () => resolve(true));
  socket.once('connect', () => resolve(true));
  socket.once('error', (error) => {
    const errno = errnoOf(error);
    if (errno === 'ECONNREFUSED' || errno === 'ENOENT') resolve(false);
    else if (errno === 'EAGAIN') resolve(true);
    else reject(error);
  });
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}
