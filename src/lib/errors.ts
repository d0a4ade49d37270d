/**
 * Every error the domain raises on purpose, with the kind of answer it deserves. The codes are stable: people
 * search for them, docs/users/errors.md explains each, and csi/status-codes.ts maps the kinds to gRPC codes.
 */
export const errorKinds = {
  'invalid-parameter': 'invalid',
  'size-out-of-range': 'out-of-range',
  'disk-not-found': 'not-found',
  'snapshot-not-found': 'not-found',
  'path-not-found': 'not-found',
  'name-taken': 'exists',
  'target-in-use': 'exists',
  'disk-in-use': 'precondition',
  'not-attached': 'precondition',
  'not-staged': 'precondition',
  'publish-refused': 'precondition',
  'live-snapshot-unsupported': 'precondition',
  'chain-too-long': 'precondition',
  'filesystem-mismatch': 'precondition',
  'filesystem-unknown': 'precondition',
  'capability-unsupported': 'precondition',
  'plugin-unhealthy': 'precondition',
  'disk-damaged': 'precondition',
  busy: 'busy',
  'list-token-invalid': 'busy',
  'pool-full': 'exhausted',
  'topology-unsatisfiable': 'exhausted',
  'pool-unavailable': 'unavailable',
  'pool-locked': 'unavailable',
  'socket-in-use': 'unavailable',
  'pool-foreign': 'damaged',
  'pool-missing': 'damaged',
  'pool-replaced': 'damaged',
  'pool-unsupported': 'damaged',
  'record-corrupt': 'damaged',
  'record-version': 'damaged',
  'layer-corrupt': 'damaged',
  'graph-corrupt': 'damaged',
  'image-header-invalid': 'damaged',
  'resource-invalid': 'damaged',
  'engine-unavailable': 'unavailable',
  'engine-dead': 'unavailable',
  'engine-unresponsive': 'unavailable',
  'qmp-failed': 'internal',
  'data-path-unsafe': 'unavailable',
  'device-missing': 'unavailable',
  'tool-failed': 'internal',
  'tool-missing': 'unavailable',
  timeout: 'unavailable',
  'layer-not-found': 'not-found',
  'layer-changed': 'busy',
  'peer-unavailable': 'unavailable',
  'peer-untrusted': 'unavailable',
  'peer-invalid': 'damaged',
  'api-unavailable': 'unavailable',
  'api-conflict': 'busy',
  'api-refused': 'internal',
  'leadership-lost': 'unavailable',
  'image-not-found': 'not-found',
  'source-unavailable': 'unavailable',
  'source-denied': 'precondition',
  'checksum-mismatch': 'precondition',
  'image-refused': 'precondition',
  'import-failed': 'internal',
  'transfer-failed': 'unavailable',
  unsupported: 'unsupported',
} as const;

export type ErrorCode = keyof typeof errorKinds;
export type ErrorKind = (typeof errorKinds)[ErrorCode];

/** A failure with a stable code. The message says what was wanted, what was found and what to do. */
export class LaminaError extends Error {
  override readonly name = 'LaminaError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  get kind(): ErrorKind {
    return errorKinds[this.code];
  }
}

/** Whether `error` is a LaminaError, of one of the `codes` where any are given. */
export function isLaminaError(error: unknown, ...codes: ErrorCode[]): error is LaminaError {
  return error instanceof LaminaError && (codes.length === 0 || codes.includes(error.code));
}

/** The errno name (`ENOENT`, …) of a failed system call, or undefined for any other error. */
export function errnoOf(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' ? code : undefined;
}

/** Resolves to `fallback` where `error` has errno `errno`; throws it again otherwise. Use as `.catch(ifErrno('ENOENT', null))`. */
export function ifErrno<T>(errno: string, fallback: T): (error: unknown) => T {
  return (error) => {
    if (errnoOf(error) === errno) return fallback;
    throw error;
  };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
