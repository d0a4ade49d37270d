import { LaminaError } from '../../lib/errors.ts';
import { invalid } from './text.ts';

const tokenPrefix = 'after:';

/**
 * One page of `items`. The token names the last id of a page rather than a position, so that what is created or deleted
 * between two pages makes no other item appear twice or be left out.
 *
 * @throws LaminaError `invalid-parameter` for a negative `maxEntries`, `list-token-invalid` for a token that is not ours
 */
export function pageOf<T extends { id: string }>(
  items: readonly T[],
  { maxEntries, startingToken }: { maxEntries: number; startingToken: string },
): { page: T[]; nextToken: string } {
  if (maxEntries < 0) throw invalid(`max_entries is ${maxEntries}; it may not be negative`);
  const after = startingToken === '' ? '' : lastIdOf(startingToken);
  const rest = items.filter(({ id }) => id > after).sort((a, b) => (a.id < b.id ? -1 : 1));
  const page = maxEntries === 0 ? rest : rest.slice(0, maxEntries);
  const last = page.at(-1);
  return { page, nextToken: last && page.length < rest.length ? tokenPrefix + last.id : '' };
}

function lastIdOf(token: string): string {
  if (!token.startsWith(tokenPrefix) || token === tokenPrefix) {
    throw new LaminaError(
      'list-token-invalid',
      `starting_token '${token}' is not one of ours; list again from the start`,
    );
  }
  return token.slice(tokenPrefix.length);
}
