import { createServer, type Server, type Socket } from 'node:net';
import * as z from 'zod/mini';
import { isLaminaError, LaminaError, messageOf } from '../../lib/errors.ts';
import { LineSplitter } from '../../lib/line-splitter.ts';
import type { Logger } from '../../lib/logger.ts';
import { parseJson } from '../../lib/parse-json.ts';
import { storageDaemonVersion } from '../../qemu/storage-daemon.ts';
import type { DaemonTable } from './daemon-table.ts';
import { type Command, commandSchema, maxRequestBytes, type Reply } from './supervisor-protocol.ts';

const requestTimeoutMs = 10_000;

/** Serves the supervisor's protocol; the caller makes it listen. */
export function createSupervisorServer(table: DaemonTable, logger: Logger): Server {
  return createServer({ allowHalfOpen: true }, (socket) => {
    // Whoever hangs up early is not waiting for the answer.
    socket.on('error', (error) => logger.debug({ error: error.message }, 'a client of the supervisor is gone'));
    void answer(socket, table, logger).then((reply) => socket.end(`${JSON.stringify(reply)}\n`));
  });
}

/** Never fails: what goes wrong is the answer. */
async function answer(socket: Socket, table: DaemonTable, logger: Logger): Promise<Reply> {
  try {
    return { result: await execute(table, parseCommand(await readLine(socket))) };
  } catch (error) {
    if (!isLaminaError(error)) logger.error({ error: messageOf(error) }, 'request to the supervisor failed');
    const code = isLaminaError(error) ? error.code : 'engine-unavailable';
    return { error: { code, message: messageOf(error) } };
  }
}

async function execute(table: DaemonTable, command: Command): Promise<unknown> {
  switch (command.do) {
    case 'describe':
      return { qemuVersion: await storageDaemonVersion() };
    case 'list':
      return table.list();
    case 'start':
      return table.start(command.id, command.request);
    case 'stop':
      await table.stop(command.id);
      return null;
  }
}

function parseCommand(line: string): Command {
  const parsed = commandSchema.safeParse(parseJson(line));
  if (parsed.success) return parsed.data;
  const problem = z.prettifyError(parsed.error).replaceAll('\n', ' ');
  throw new LaminaError('invalid-parameter', `not a command of the supervisor: ${problem}`);
}

/** The first line that comes. */
function readLine(socket: Socket): Promise<string> {
  const lines = new LineSplitter(maxRequestBytes);
  return new Promise((resolve, reject) => {
    socket.setTimeout(requestTimeoutMs, () => reject(invalid(`no command within ${requestTimeoutMs} ms`)));
    for (const end of ['end', 'close']) socket.on(end, () => reject(invalid('no whole command')));
    socket.on('data', (chunk: Buffer) => {
      try {
        const [line] = lines.push(chunk);
        if (line === undefined) return;
        socket.setTimeout(0);
        resolve(line);
      } catch (error) {
        reject(invalid(messageOf(error)));
      }
    });
  });
}

function invalid(message: string): LaminaError {
  return new LaminaError('invalid-parameter', message);
}
