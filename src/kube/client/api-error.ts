import { type ErrorCode, LaminaError } from '../../lib/errors.ts';

export interface ApiFailure {
  /** HTTP status; undefined where there was no answer at all. */
  status?: number | undefined;
  /** Kubernetes' word for it: `NotFound`, `Conflict`, `Expired`. */
  reason?: string | undefined;
  /** The object that the API server speaks of. */
  objectName?: string | undefined;
  /** When the API server wants to be asked again, at the earliest. */
  retryAfterMs?: number | undefined;
  /** Further reasons, such as `ResourceVersionTooLarge`. */
  causes?: readonly string[] | undefined;
}

/** A request that the API server refused, or that did not reach it. */
export class ApiError extends LaminaError {
  readonly failure: ApiFailure;

  constructor(message: string, failure: ApiFailure, options?: ErrorOptions) {
    super(codeOf(failure), message, options);
    this.failure = failure;
  }
}

function codeOf({ status, reason }: ApiFailure): ErrorCode {
  if (status === 409) return reason === 'AlreadyExists' ? 'api-refused' : 'api-conflict';
  if (status === undefined || status === 401 || status === 410 || status === 429 || status >= 500) {
    return 'api-unavailable';
  }
  return 'api-refused';
}

/** Reads the Status object that the API server answers failures with; a proxy between may answer anything. */
export function apiErrorOf(request: string, status: number, body: string, retryAfterHeader?: string): ApiError {
  const { message, reason, details } = parseStatus(body);
  const retryAfterSeconds = Number(retryAfterHeader ?? details?.retryAfterSeconds ?? Number.NaN);
  const words = typeof message === 'string' ? message : body.trim().slice(0, 300);
  return new ApiError(`${request}: the API server answered ${status}: ${words || 'nothing more'}`, {
    status,
    reason: typeof reason === 'string' ? reason : undefined,
    objectName: typeof details?.name === 'string' ? details.name : undefined,
    retryAfterMs: retryAfterSeconds >= 0 ? retryAfterSeconds * 1000 : undefined,
    causes: Array.isArray(details?.causes) ? details.causes.map((cause) => String(cause?.reason)) : undefined,
  });
}

interface Status {
  message?: unknown;
  reason?: unknown;
  details?: { name?: unknown; retryAfterSeconds?: unknown; causes?: ({ reason?: unknown } | null)[] } | null;
}

function parseStatus(body: string): Status {
  try {
    return (JSON.parse(body) as Status | null) ?? {};
  } catch {
    return {};
  }
}

/** Whether that very object is not there. Where its kind, and not it, is unknown to the API server, this is false. */
export function isObjectMissing(error: unknown, name: string): boolean {
  return error instanceof ApiError && error.failure.status === 404 && error.failure.objectName === name;
}

/** Whether somebody else has changed the object since it was read, or owns a field that was to be applied. */
export function isConflict(error: unknown): boolean {
  return error instanceof ApiError && error.code === 'api-conflict';
}

export function isAlreadyExists(error: unknown): boolean {
  return error instanceof ApiError && error.failure.reason === 'AlreadyExists';
}

/** Whether the resource version, or the continue token, that was given is too old. */
export function isExpired(error: unknown): boolean {
  return error instanceof ApiError && error.failure.status === 410;
}

/** Whether there was no answer at all: the server is down, or the way to it. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof ApiError && error.failure.status === undefined;
}

/** How long the API server asks to be left alone, in milliseconds; 0 where it does not. */
export function retryAfterMsOf(error: unknown): number {
  return (error instanceof ApiError && error.failure.retryAfterMs) || 0;
}
