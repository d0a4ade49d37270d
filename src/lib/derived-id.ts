import { createHash } from 'node:crypto';

/** Fit for a file name, a Kubernetes object name and a label value. */
const plainName = /^(?=.{1,63}$)[a-z0-9]+(-+[a-z0-9]+)*(\.[a-z0-9]+(-+[a-z0-9]+)*)*$/;
const hashedPrefix = 'sha256-';
const hashedId = /^sha256-[0-9a-f]{48}$/;
/** Of ids that no name gives. */
export const transientPrefix = 'transient.';

/**
 * The id for a name a caller chose: the name itself where it is plain, a hash of it otherwise. The same name always
 * gives the same id, and no two names share one.
 */
export function derivedId(name: string): string {
  const reserved = name.startsWith(hashedPrefix) || name.startsWith(transientPrefix);
  if (plainName.test(name) && !reserved) return name;
  return hashedPrefix + createHash('sha256').update(name).digest('hex').slice(0, 48);
}

/** Whether `text` can be an id of a name, plain or not. */
export function isDerivedId(text: string): boolean {
  return hashedId.test(text) || derivedId(text) === text;
}
