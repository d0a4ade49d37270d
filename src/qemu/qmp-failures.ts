import { isLaminaError } from '../lib/errors.ts';

/**
 * QMP gives nearly every refusal the class GenericError; only the description tells them apart. These are the ones that
 * mean "already so" or "not there", checked with QEMU 10.0.
 */
function refusedWith(error: unknown, pattern: RegExp): boolean {
  if (!isLaminaError(error, 'qmp-failed')) return false;
  const reply = error.cause as { desc?: unknown } | undefined;
  return typeof reply?.desc === 'string' && pattern.test(reply.desc);
}

/** Of blockdev-add. */
export function isDuplicateNode(error: unknown): boolean {
  return refusedWith(error, /^Duplicate nodes with node-name/);
}

/** Of any command that names a node. */
export function isUnknownNode(error: unknown): boolean {
  return refusedWith(error, /^(Failed|Cannot) (to )?find (node with node-name|device)/);
}
