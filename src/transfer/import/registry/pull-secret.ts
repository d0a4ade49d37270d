import * as z from 'zod';
import { LaminaError } from '../../../lib/errors.ts';
import type { ImageReference } from './image-reference.ts';

export interface Login {
  user: string;
  password: string;
}

const entrySchema = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
});
const secretSchema = z.object({ auths: z.record(z.string(), entrySchema) });

/**
 * Who logs in to the registry of an image, by a secret of the type kubernetes.io/dockerconfigjson: the entry whose host is
 * that of the registry (`*` stands for a part of it) and whose path is the longest that the repository begins with.
 *
 * @param secret as read from JSON; null: there is none
 * @returns null where it has no entry for the registry
 * @throws LaminaError `source-denied` where it is no such secret; nothing of it is in the message
 */
export function loginFor(secret: unknown, { registry, repository }: ImageReference): Login | null {
  if (secret === null || secret === undefined) return null;
  const { data } = secretSchema.safeParse(secret);
  if (!data)
    throw new LaminaError('source-denied', `${registry}: the pull secret is no kubernetes.io/dockerconfigjson`);
  const matching = Object.entries(data.auths)
    .map(([key, entry]) => ({ ...placeOf(key), entry }))
    .filter(({ host, path }) => sameHost(host, registry) && `${repository}/`.startsWith(path))
    .sort((a, b) => b.path.length - a.path.length);
  const [best] = matching;
  return best ? readEntry(best.entry, registry) : null;
}

/** Docker writes `https://index.docker.io/v1/`, Kubernetes also `registry.example.org/team`. */
function placeOf(key: string): { host: string; path: string } {
  const [host = '', ...rest] = key
    .replace(/^https?:\/\//, '')
    .replace(/\/+$/, '')
    .split('/');
  const path = rest.join('/');
  return { host: aliasOf(host), path: path === '' || /^v[12]$/.test(path) ? '' : `${path}/` };
}

function aliasOf(host: string): string {
  return ['index.docker.io', 'registry-1.docker.io'].includes(host) ? 'docker.io' : host;
}

function sameHost(pattern: string, registry: string): boolean {
  const [wanted, found] = [pattern, aliasOf(registry)].map((host) => host.split('.')) as [string[], string[]];
  return wanted.length === found.length && wanted.every((part, index) => samePart(part, found[index] ?? ''));
}

/** `*` in a part of a host's name stands for anything within that part. */
function samePart(pattern: string, part: string): boolean {
  const [start = '', ...rest] = pattern.split('*');
  const end = rest.at(-1);
  if (end === undefined) return pattern === part;
  return rest.length === 1 && part.length >= start.length + end.length && part.startsWith(start) && part.endsWith(end);
}

function readEntry({ auth, username, password }: z.infer<typeof entrySchema>, registry: string): Login {
  if (username !== undefined && password !== undefined) return { user: username, password };
  const text = Buffer.from(auth ?? '', 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon > 0) return { user: text.slice(0, colon), password: text.slice(colon + 1) };
  throw new LaminaError('source-denied', `the pull secret has no user and password for ${registry}`);
}
