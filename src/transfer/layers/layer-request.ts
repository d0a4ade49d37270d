import type { IncomingMessage } from 'node:http';
import * as z from 'zod';
import { LaminaError } from '../../lib/errors.ts';
import { layerIdSchema } from '../../store/records.ts';
import type { SealedKind } from './chain-description.ts';

/** What another node asks for. */
export type LayerRequest =
  | { kind: SealedKind; pool: string; id: string }
  | { kind: 'layer'; pool: string; id: z.infer<typeof layerIdSchema>; from: number; etag: string };

const base = 'https://node';

const kinds: Record<string, LayerRequest['kind'] | undefined> = {
  snapshots: 'snapshot',
  images: 'image',
  layers: 'layer',
};

const layerSchema = z.object({
  id: layerIdSchema,
  from: z
    .string()
    .regex(/^[0-9]{1,15}$/)
    .transform(Number),
  etag: z
    .string()
    .regex(/^"[0-9a-f]{1,64}"$/)
    .transform((text) => text.slice(1, -1)),
});

/** The path of a request of our own client. */
export function layerRequestPath(pool: string, kind: LayerRequest['kind'], id: string): string {
  return `/v1/pools/${encodeURIComponent(pool)}/${kind}s/${encodeURIComponent(id)}`;
}

/** @throws LaminaError `invalid-parameter` */
export function parseLayerRequest({ method, url = '', headers }: IncomingMessage): LayerRequest {
  if (!URL.canParse(url, base)) throw unknown(method, url);
  const { pathname, searchParams } = new URL(url, base);
  const [root, version, pools, pool, kindName = '', id, ...more] = pathname.split('/').map(decode);
  const kind = kinds[kindName];
  const known = root === '' && version === 'v1' && pools === 'pools' && kind && more.length === 0;
  if (method !== 'GET' || !known || !pool || !id) throw unknown(method, pathname);
  if (kind !== 'layer') return { kind, pool, id };
  const parsed = layerSchema.safeParse({ id, from: searchParams.get('from') ?? '0', etag: headers['if-match'] });
  if (!parsed.success) throw new LaminaError('invalid-parameter', z.prettifyError(parsed.error));
  return { kind, pool, ...parsed.data };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return '';
  }
}

function unknown(method: string | undefined, pathname: string): LaminaError {
  return new LaminaError('invalid-parameter', `nothing answers ${method} ${pathname}`);
}
