import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { LaminaError } from '../lib/errors.ts';
import { pollUntil } from '../lib/poll.ts';
import { type ImageNode, imageBlockdev } from './blockdev.ts';
import { NbdClient } from './nbd-client.ts';
import { exportId, graphArgs, nbdExportArgs } from './storage-daemon.ts';

const startTimeoutMs = 20_000;
/** Whoever reads here has no hurry, and often reads what was just written. */
const access = { direct: false, aio: 'threads', discard: false } as const;

/** A chain of images as a disk that is read. */
export interface ChainServer {
  client: NbdClient;
  /** An address at which qemu-img finds the same disk. */
  url: string;
  stop: () => Promise<void>;
}

/**
 * Starts a storage daemon that shows `nodes`, head first, read-only on a unix socket. It ends with this process; the
 * socket's file is left to whoever made its directory.
 *
 * @throws LaminaError `tool-failed` with the daemon's last words, `timeout`
 */
export async function serveChain(nodes: readonly ImageNode[], socketPath: string): Promise<ChainServer> {
  const [head] = nodes;
  if (!head) throw new LaminaError('invalid-parameter', 'a chain without images');
  const blockdevs = nodes.toReversed().map((node) => imageBlockdev(node, access));
  const args = [...graphArgs(blockdevs), ...nbdExportArgs(head.nodeName, socketPath, 4, false)];
  const command = ['--pdeathsig', 'KILL', '--', 'qemu-storage-daemon', ...args];
  const child = spawn('setpriv', command, { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
  let words = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-2000);
  });
  let ended = false;
  const end = once(child, 'close').then(
    () => (ended = true),
    () => (ended = true),
  );
  const stop = async () => {
    child.kill('SIGKILL');
    await end;
  };
  let client: NbdClient | undefined;
  const answers = async () => {
    client = await NbdClient.connect(socketPath, exportId).catch(() => undefined);
    return client !== undefined || ended;
  };
  const inTime = await pollUntil(answers, { timeoutMs: startTimeoutMs, intervalMs: 20 });
  if (client) return { client, url: `nbd+unix:///${exportId}?socket=${encodeURIComponent(socketPath)}`, stop };
  await stop();
  if (inTime) throw new LaminaError('tool-failed', `qemu-storage-daemon: ${words.trim()}`, { cause: {} });
  throw new LaminaError('timeout', `qemu-storage-daemon does not show ${head.path} within ${startTimeoutMs} ms`);
}
