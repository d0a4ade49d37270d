import { type FailureReason, failureReason } from '../../api/conditions.ts';
import { isLaminaError, type LaminaError, messageOf } from '../../lib/errors.ts';

/** But for tabs and ends of lines. What an image or a server says is quoted, and shown in somebody's terminal. */
const controls = /(?![\t\n\r])\p{Cc}/gu;

/** A failure that is a state of the object, for its conditions and events. */
export interface Failure {
  reason: FailureReason;
  /** For people. */
  message: string;
}

/**
 * What a reconcile says of a failure.
 *
 * @throws the error again where it says nothing of the object: the API server's troubles, and what nobody foresaw
 */
export function failureOf(error: unknown): Failure {
  if (!isLaminaError(error) || speaksOfApi(error)) throw error;
  return { reason: failureReason(error.code), message: messageOf(error).replace(controls, '\uFFFD') };
}

function speaksOfApi({ code }: LaminaError): boolean {
  return code.startsWith('api-') || code === 'leadership-lost';
}
