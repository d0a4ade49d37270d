import * as z from 'zod/mini';
import { type ErrorCode, errorKinds } from '../../lib/errors.ts';

/**
 * The supervisor's whole interface: over a unix socket one line of JSON, and one back, per connection. It outlives
 * upgrades of everything else, so it is kept this small; and node:http alone would take 14 MB.
 */
export const startRequestSchema = z.strictObject({
  diskId: z.string().check(z.minLength(1), z.maxLength(256)),
  /** Arguments of qemu-storage-daemon; the supervisor adds its monitors. */
  arguments: z.array(z.string()).check(z.maxLength(1000)),
  /** For the caller: kept and given back, never looked at. */
  labels: z.record(z.string(), z.string()),
});
export type StartRequest = z.infer<typeof startRequestSchema>;

/** `dead`: no process, what it left is still there; `unresponsive`: QMP gives no answer. */
export const daemonStates = ['running', 'dead', 'unresponsive'] as const;

export const daemonReportSchema = z.object({
  id: z.string(),
  diskId: z.string(),
  pid: z.nullable(z.number()),
  state: z.enum(daemonStates),
  labels: z.record(z.string(), z.string()),
});
export type DaemonReport = z.infer<typeof daemonReportSchema>;

const idSchema = z.string().check(z.regex(/^[0-9a-f]{16}$/));

export const commandSchema = z.discriminatedUnion('do', [
  /** Answered with what the daemons will be: the self-test of another process must speak of the same QEMU. */
  z.strictObject({ do: z.literal('describe') }),
  /** Answered with the reports of all daemons. */
  z.strictObject({ do: z.literal('list') }),
  /** Idempotent; answered with the daemon's report once its export is there. */
  z.strictObject({ do: z.literal('start'), id: idSchema, request: startRequestSchema }),
  /** Idempotent; answered with null once nothing is left of the daemon. */
  z.strictObject({ do: z.literal('stop'), id: idSchema }),
]);
export type Command = z.infer<typeof commandSchema>;

export const descriptionSchema = z.object({ qemuVersion: z.string() });
export type EngineDescription = z.infer<typeof descriptionSchema>;

export const daemonListSchema = z.array(daemonReportSchema);

const errorCodes = Object.keys(errorKinds) as [ErrorCode, ...ErrorCode[]];
const errorSchema = z.object({ code: z.catch(z.enum(errorCodes), 'engine-unavailable'), message: z.string() });

export const replySchema = z.union([z.strictObject({ error: errorSchema }), z.strictObject({ result: z.unknown() })]);
export type Reply = z.infer<typeof replySchema>;

export const maxRequestBytes = 1024 * 1024;
/** Room for the reports of some ten thousand daemons. */
export const maxReplyBytes = 16 * 1024 * 1024;
