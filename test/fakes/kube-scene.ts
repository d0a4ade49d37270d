import { ApiClient } from '../../src/kube/client/client.ts';
import type { KubeObject } from '../../src/kube/objects.ts';
import { ResourceClient } from '../../src/kube/client/resource-client.ts';
import type { ResourceType } from '../../src/kube/client/resource-type.ts';
import { pollUntil } from '../../src/lib/poll.ts';
import type { FakeObject, FakeType } from './api-objects.ts';
import { FakeApiServer, type FakeApiServerOptions } from './api-server.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryLogger } from './memory-logger.ts';

/** A kind whose parsed form is not what is sent: `size: 2Gi` becomes a number, as does `used`, and `pool` has a default. */
export interface Thing extends KubeObject {
  spec: { sizeGi: number; pool: string; node?: string };
  status: { used?: number; phase?: string; conditions?: unknown[] };
}

export const thingType: ResourceType<Thing> & FakeType = {
  group: 'test.lamina.storage',
  version: 'v1',
  kind: 'Thing',
  plural: 'things',
  namespaced: true,
  parse: (json) => {
    const { spec = {}, status = {}, ...rest } = json as { spec?: Record<string, unknown>; status?: object };
    const { size = '1Gi', pool = 'default', ...others } = spec;
    return { ...rest, spec: { sizeGi: gibibytes(size), pool, ...others }, status: parseStatus(status) } as Thing;
  },
  parseStatus,
};

function parseStatus(json: unknown): Thing['status'] {
  const { used, ...rest } = json as { used?: unknown };
  return used === undefined ? rest : { ...rest, used: gibibytes(used) };
}

function gibibytes(size: unknown): number {
  const match = /^([0-9]+)(Gi|Ti)$/.exec(String(size));
  if (!match) throw new Error(`'${String(size)}' is no size`);
  return Number(match[1]) * (match[2] === 'Ti' ? 1024 : 1);
}

export interface Scene {
  server: FakeApiServer;
  clock: ManualClock;
  logger: MemoryLogger;
  client: ApiClient;
  things: ResourceClient<Thing>;
  /** Makes a Thing, as a user does. */
  make(name: string, spec?: object, metadata?: object): FakeObject;
  /** Where a Thing is. */
  at(name: string): { type: FakeType; namespace: string; name: string; subresource: string };
  stop(): Promise<void>;
}

/** A fake API server, a client of it, and a clock that stands still. */
export async function startScene(options: Partial<FakeApiServerOptions> = {}): Promise<Scene> {
  const server = new FakeApiServer({ types: [thingType], ...options });
  await server.start();
  const clock = new ManualClock();
  const client = new ApiClient({ connection: server.connection, clock, userAgent: 'lamina/test' });
  return {
    server,
    clock,
    logger: new MemoryLogger(),
    client,
    things: new ResourceClient(client, thingType),
    make: (name, spec = {}, metadata = {}) =>
      server.objects.create(
        { type: thingType, namespace: 'media' },
        { apiVersion: 'test.lamina.storage/v1', kind: 'Thing', metadata: { name, ...metadata }, spec },
      ),
    at: (name) => ({ type: thingType, namespace: 'media', name, subresource: '' }),
    stop: async () => {
      client.close();
      await server.stop();
    },
  };
}

/** Waits until `condition` holds. @throws after 10 s */
export async function until(condition: () => boolean | Promise<boolean>, what: unknown = condition): Promise<void> {
  if (!(await pollUntil(condition, { timeoutMs: 10_000, intervalMs: 2 })))
    throw new Error(`not within 10 s: ${String(what)}`);
}
