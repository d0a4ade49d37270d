import { connect } from 'node:net';
import { LaminaError } from '../../lib/errors.ts';
import { LineSplitter } from '../../lib/line-splitter.ts';
import { type Command, maxReplyBytes, replySchema } from './supervisor-protocol.ts';

/**
 * Sends one command to the supervisor and resolves to its result.
 * @throws the LaminaError that the supervisor answers; `engine-unavailable` where it does not answer within `timeoutMs`;
 *   errors of the connection as they are, ECONNRESET where it ended in the middle.
 */
export async function exchange(socketPath: string, command: Command, timeoutMs: number): Promise<unknown> {
  const line = await ask(socketPath, JSON.stringify(command), timeoutMs);
  const reply = replySchema.parse(JSON.parse(line));
  if ('error' in reply) throw new LaminaError(reply.error.code, reply.error.message);
  return reply.result;
}

function ask(socketPath: string, line: string, timeoutMs: number): Promise<string> {
  const lines = new LineSplitter(maxReplyBytes);
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const timer = setTimeout(() => {
      const message = `the engine's supervisor at ${socketPath} gave no answer within ${timeoutMs} ms`;
      socket.destroy(new LaminaError('engine-unavailable', message));
    }, timeoutMs);
    socket.on('data', (chunk: Buffer) => {
      try {
        const [answer] = lines.push(chunk);
        if (answer !== undefined) resolve(answer);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    socket.on('error', reject);
    socket.on('close', () => {
      clearTimeout(timer);
      reject(Object.assign(new Error('the supervisor closed the connection'), { code: 'ECONNRESET' }));
    });
    socket.write(`${line}\n`);
  });
}
