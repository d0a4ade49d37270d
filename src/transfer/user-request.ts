import type { IncomingMessage } from 'node:http';
import { LaminaError } from '../lib/errors.ts';
import { type Format, formats } from '../store/records.ts';
import { type SealedKind, sealedKinds } from './chain-description.ts';

/** What somebody with a token asks for. */
export type UserRequest = { pool: string; id: string } & (
  | { action: 'export'; kind: SealedKind; format: Format; headOnly: boolean }
  | { action: 'upload'; kind: 'image'; headOnly: boolean }
);

const base = 'https://node';
const bearer = /^Bearer +([A-Za-z0-9._~+/=-]+) *$/i;

/** The bearer token of a request, or undefined where there is none. */
export function tokenOf({ headers }: IncomingMessage): string | undefined {
  return bearer.exec(headers.authorization ?? '')?.[1];
}

/** @throws LaminaError `invalid-parameter` */
export function parseUserRequest({ method = '', url = '' }: IncomingMessage): UserRequest {
  const refuse = () => new LaminaError('invalid-parameter', `nothing answers ${method} ${url}`);
  if (!URL.canParse(url, base)) throw refuse();
  const parts = new URL(url, base).pathname.split('/').slice(1);
  if (parts.some((part) => !isDecodable(part))) throw refuse();
  const [version, pools, pool, kinds, id, file, ...more] = parts.map(decodeURIComponent);
  const kind = sealedKinds.find((each) => `${each}s` === kinds);
  if (version !== 'v1' || pools !== 'pools' || !pool || !kind || !id || more.length > 0) throw refuse();
  const headOnly = method === 'HEAD';
  const format = formats.find((each) => `disk.${each}` === file);
  if (format && (method === 'GET' || headOnly)) return { action: 'export', pool, kind, id, format, headOnly };
  if (kind === 'image' && file === 'upload' && (method === 'PUT' || headOnly))
    return { action: 'upload', pool, kind, id, headOnly };
  throw refuse();
}

function isDecodable(part: string): boolean {
  try {
    decodeURIComponent(part);
    return true;
  } catch {
    return false;
  }
}
