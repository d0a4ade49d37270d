import * as z from 'zod/mini';
import { type ErrorCode, errorKinds } from '../lib/errors.ts';

/**
 * The supervisor's whole interface, HTTP with JSON over a unix socket:
 * `GET /daemons`, `PUT /daemons/<id>`, `DELETE /daemons/<id>`. It outlives upgrades of everything else, so it is kept this small.
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

export const daemonListSchema = z.object({ daemons: z.array(daemonReportSchema) });

const errorCodes = Object.keys(errorKinds) as [ErrorCode, ...ErrorCode[]];
export const errorReplySchema = z.object({ code: z.catch(z.enum(errorCodes), 'engine-unavailable'), message: z.string() });

export const maxRequestBytes = 1024 * 1024;
/** Room for the reports of some ten thousand daemons. */
export const maxReplyBytes = 16 * 1024 * 1024;
