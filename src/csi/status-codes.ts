import { status } from '@grpc/grpc-js';
import { type ErrorCode, type ErrorKind, errorKinds, LaminaError, messageOf } from '../lib/errors.ts';

/**
 * The one place where failures become gRPC codes. external-provisioner takes ABORTED, UNAVAILABLE, CANCELED and
 * DEADLINE_EXCEEDED for "maybe still in progress" and asks again under the same name, RESOURCE_EXHAUSTED for "choose
 * another node", and all else for final: only what has left nothing running and nothing behind may be final.
 */
const statusOfKind: Record<ErrorKind, status> = {
  invalid: status.INVALID_ARGUMENT,
  'out-of-range': status.OUT_OF_RANGE,
  'not-found': status.NOT_FOUND,
  exists: status.ALREADY_EXISTS,
  precondition: status.FAILED_PRECONDITION,
  busy: status.ABORTED,
  exhausted: status.RESOURCE_EXHAUSTED,
  unavailable: status.UNAVAILABLE,
  // Asking again does not help before a person has looked at it.
  damaged: status.INTERNAL,
  internal: status.INTERNAL,
  unsupported: status.INVALID_ARGUMENT,
};

/** What an exception that nobody expected is called in messages and docs/users/errors.md. */
export const unexpectedCode = 'unexpected';

export interface RpcStatus {
  code: status;
  /** `[disk-not-found] …`: the stable code first, so that people can search for it. */
  details: string;
}

export function statusCodeOf(code: ErrorCode): status {
  return statusOfKind[errorKinds[code]];
}

/** `NOT_FOUND`, `OK`, … */
export function statusNameOf(code: status): string {
  return status[code];
}

/** gRPC carries the message in an HTTP/2 header, of which clients take 8 KiB at least. */
const maxDetailsLength = 4000;

export function statusOf(error: unknown): RpcStatus {
  const [code, name] =
    error instanceof LaminaError ? [statusCodeOf(error.code), error.code] : [status.INTERNAL, unexpectedCode];
  const details = `[${name}] ${messageOf(error)}`;
  return { code, details: details.length > maxDetailsLength ? `${details.slice(0, maxDetailsLength)}…` : details };
}
