import type { IncomingMessage, ServerResponse } from 'node:http';
import * as z from 'zod';
import { type ErrorCode, type ErrorKind, isLaminaError, LaminaError } from '../lib/errors.ts';
import { parseJson } from '../lib/parse-json.ts';

/** How a failure is told to a peer or a person's HTTP client. */
const statusOfKind: Record<ErrorKind, number> = {
  invalid: 400,
  unsupported: 400,
  'out-of-range': 400,
  'not-found': 404,
  exists: 409,
  busy: 409,
  precondition: 409,
  exhausted: 507,
  unavailable: 503,
  damaged: 500,
  internal: 500,
};
const statusOfCode: Partial<Record<ErrorCode, number>> = {
  'layer-changed': 412,
  'peer-untrusted': 403,
  busy: 503,
};

const errorBody = z.object({ code: z.string().max(100), message: z.string().max(4096) });
/** Failures that mean the same to whoever asked; all others are the peer's own affair. */
const sharedCodes: readonly ErrorCode[] = [
  'snapshot-not-found',
  'image-not-found',
  'layer-not-found',
  'layer-changed',
  'peer-untrusted',
];

/** For so long the rest of a request is read that was answered before its end. */
const readOnMs = 5000;

/**
 * @param request given where it may be answered before all of it has come, and the connection is closed then: who is still
 *   sending when that happens finds a broken connection, and may not see the answer
 */
export function answerJson(response: ServerResponse, status: number, body: unknown, request?: IncomingMessage): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  if (request === undefined || request.complete || request.destroyed) return void response.end(text);
  response.write(text);
  const end = () => response.end();
  const timer = setTimeout(end, readOnMs);
  request.once('close', () => (clearTimeout(timer), end()));
  request.resume();
}

/** Says what went wrong; where the answer has begun already, breaks it off, which the other side cannot mistake for its end. */
export function answerError(response: ServerResponse, error: unknown, request?: IncomingMessage): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  if (isLaminaError(error)) {
    const { code, kind, message } = error;
    answerJson(response, statusOfCode[code] ?? statusOfKind[kind], { code, message }, request);
  } else {
    const message = 'an unexpected error; the log of the node has it';
    answerJson(response, 500, { code: 'unexpected', message }, request);
  }
}

/** The failure that a peer's answer tells. */
export function errorInAnswer(status: number, body: string): LaminaError {
  const { code = status, message = body.slice(0, 200) } = errorBody.safeParse(parseJson(body)).data ?? {};
  const shared = sharedCodes.find((each) => each === code);
  if (shared) return new LaminaError(shared, message);
  return new LaminaError('peer-unavailable', `the peer answered ${status} [${code}] ${message}`);
}
