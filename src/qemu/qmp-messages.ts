import * as z from 'zod/mini';
import { LaminaError } from '../lib/errors.ts';

/** What a QMP server sends, as far as we look at it. Small zod: the supervisor loads this too. */
const greeting = z.object({ QMP: z.object({ version: z.unknown() }) });
const event = z.object({ event: z.string() });
const success = z.object({ id: z.number(), return: z.unknown() });
const failure = z.object({ id: z.optional(z.number()), error: z.object({ class: z.string(), desc: z.string() }) });

export interface QmpErrorReply {
  class: string;
  desc: string;
}

export type QmpMessage =
  | { kind: 'greeting' }
  | { kind: 'event'; name: string }
  | { kind: 'success'; id: number; value: unknown }
  | { kind: 'failure'; id: number | undefined; error: QmpErrorReply };

/** @throws LaminaError `qmp-failed` for a line that is no message of the protocol. */
export function parseQmpMessage(line: string): QmpMessage {
  const json = parseJson(line);
  if (greeting.safeParse(json).success) return { kind: 'greeting' };
  const happened = event.safeParse(json);
  if (happened.success) return { kind: 'event', name: happened.data.event };
  const failed = failure.safeParse(json);
  if (failed.success) return { kind: 'failure', id: failed.data.id, error: failed.data.error };
  const succeeded = success.safeParse(json);
  if (succeeded.success && 'return' in succeeded.data) {
    return { kind: 'success', id: succeeded.data.id, value: succeeded.data.return };
  }
  throw garbage(line);
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw garbage(line);
  }
}

function garbage(line: string): LaminaError {
  return new LaminaError('qmp-failed', `wanted a QMP message, found ${JSON.stringify(line.slice(0, 200))}`);
}
