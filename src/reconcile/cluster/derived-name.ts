import { createHash } from 'node:crypto';

/** So that the name stays short enough for an object's. */
const maxBaseLength = 200;
const hashLength = 10;
const hash = new RegExp(`^[0-9a-f]{${hashLength}}$`);

/**
 * The name of an object that the controller declares for another one: always the same for the same `seed`, and readable.
 *
 * @param base the name of an object that it has to do with
 * @param purpose a word
 * @param seed what tells it from others of that base; the uid of an object among it, as names come and go
 */
export function derivedName(base: string, purpose: string, seed: string): string {
  return prefixOf(base, purpose) + createHash('sha256').update(seed).digest('hex').slice(0, hashLength);
}

/** Whether it could be such a name, of whatever seed. */
export function isDerivedName(name: string, base: string, purpose: string): boolean {
  const prefix = prefixOf(base, purpose);
  return name.startsWith(prefix) && hash.test(name.slice(prefix.length));
}

function prefixOf(base: string, purpose: string): string {
  return `${base.slice(0, maxBaseLength).replace(/[^a-z0-9]+$/, '')}-${purpose}-`;
}
