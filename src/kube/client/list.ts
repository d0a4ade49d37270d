import { ApiError, isExpired } from './api-error.ts';
import type { KubeClient } from './client.ts';

export interface ListRequest {
  client: KubeClient;
  /** Of the collection. */
  path: string;
  selectors: { labelSelector?: string | undefined; fieldSelector?: string | undefined };
  signal?: AbortSignal | undefined;
}

export interface ListPage {
  /** What came before belongs to a list that could not be finished. */
  isFirst: boolean;
  items: readonly unknown[];
  /** Of the whole list. */
  resourceVersion: string;
}

const pageSize = 500;
const timeoutMs = 60_000;

/**
 * A complete list, in pages of one version. Where the API server has forgotten that version before the last page, it
 * begins again, and then takes everything in one page.
 */
export async function* listPages(request: ListRequest): AsyncGenerator<ListPage, void, undefined> {
  let token: string | undefined;
  let limit: number | undefined = pageSize;
  for (;;) {
    try {
      const page = await readPage(request, limit, token);
      yield page;
      token = page.continue;
      if (token === undefined) return;
    } catch (error) {
      if (!isExpired(error) || token === undefined) throw error;
      token = undefined;
      limit = undefined;
    }
  }
}

async function readPage(
  { client, path, selectors, signal }: ListRequest,
  limit: number | undefined,
  token: string | undefined,
): Promise<ListPage & { continue: string | undefined }> {
  const query = { ...selectors, limit, continue: token };
  const answer = (await client.request({ method: 'GET', path, query, signal, timeoutMs })) as {
    metadata?: { resourceVersion?: unknown; continue?: unknown };
    items?: unknown;
  } | null;
  const { resourceVersion, continue: next } = answer?.metadata ?? {};
  // Empty lists of some kinds have null for their items; without a version it is no list at all.
  const items = answer?.items ?? [];
  if (typeof resourceVersion !== 'string' || resourceVersion === '' || !Array.isArray(items)) {
    throw new ApiError(`GET ${path}: the answer is no list`, { status: 502 });
  }
  return {
    isFirst: token === undefined,
    items,
    resourceVersion,
    continue: typeof next === 'string' && next !== '' ? next : undefined,
  };
}
