import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { groupVersion } from '../src/api/names.ts';
import { pollUntil } from '../src/lib/poll.ts';
import { type ApiAnswer, type findApiServer, KubeApiServer } from './kube-api-server.ts';

const crds = path.resolve(import.meta.dirname, '../crds');
export const definitionsPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

export const collections = {
  DiskImage: `/apis/${groupVersion}/namespaces/default/diskimages`,
  DiskSnapshot: `/apis/${groupVersion}/namespaces/default/disksnapshots`,
  DiskPool: `/apis/${groupVersion}/diskpools`,
};
export type KindName = keyof typeof collections;

export const objectSchema = z.looseObject({
  apiVersion: z.string(),
  kind: z.enum(['DiskImage', 'DiskSnapshot', 'DiskPool']),
  metadata: z.looseObject({ name: z.string() }),
});
export type Custom = z.infer<typeof objectSchema>;

export const conditionsSchema = z.object({
  status: z.object({ conditions: z.array(z.object({ type: z.string(), status: z.string() })).default([]) }),
});

const tableSchema = z.object({
  columnDefinitions: z.array(z.object({ name: z.string(), priority: z.int() })),
  rows: z.array(z.object({ cells: z.array(z.unknown()) })),
});

/** A real API server that has the definitions in crds/, and objects of them in YAML as people write it. */
export class CrdScene {
  readonly server: KubeApiServer;
  /** What the API server answered to the definitions. */
  readonly installed: ApiAnswer[] = [];
  #lastNumber = 0;

  private constructor(server: KubeApiServer) {
    this.server = server;
  }

  static async start(programs: Exclude<Awaited<ReturnType<typeof findApiServer>>, { missing: string }>) {
    const scene = new CrdScene(await KubeApiServer.start(programs));
    for (const file of await readdir(crds)) await scene.#install(await readFile(path.join(crds, file), 'utf8'));
    for (const collection of Object.values(collections)) {
      const isServed = async () => (await scene.server.send('GET', collection)).status === 200;
      await pollUntil(isServed, { timeoutMs: 30_000, intervalMs: 50 });
    }
    return scene;
  }

  /** Creates a definition as kubectl does, and waits until it is established. */
  async #install(yaml: string): Promise<void> {
    const definition: unknown = parse(yaml, { version: '1.1' });
    this.installed.push(
      await this.server.send('POST', `${definitionsPath}?fieldValidation=Strict`, { body: definition }),
    );
    const { metadata } = z.object({ metadata: z.object({ name: z.string() }) }).parse(definition);
    const isEstablished = async () => {
      const { body } = await this.server.send('GET', `${definitionsPath}/${metadata.name}`);
      const conditions = conditionsSchema.safeParse(body).data?.status.conditions ?? [];
      return conditions.some(({ type, status }) => type === 'Established' && status === 'True');
    };
    await pollUntil(isEstablished, { timeoutMs: 30_000, intervalMs: 50 });
  }

  /** An object of YAML as kubectl reads it; without a name it gets one. */
  objectOf(kind: KindName, yaml: string): Custom {
    this.#lastNumber += 1;
    const { metadata, ...rest } = z
      .looseObject({ metadata: z.looseObject({}).optional() })
      .parse(parse(yaml, { version: '1.1' }));
    return { apiVersion: groupVersion, kind, ...rest, metadata: { name: `object-${this.#lastNumber}`, ...metadata } };
  }

  /** As kubectl does: fields that are not known are refused, not dropped. */
  async create(object: Custom): Promise<ApiAnswer> {
    return this.server.send('POST', `${collections[object.kind]}?fieldValidation=Strict`, { body: object });
  }

  async created(kind: KindName, yaml: string): Promise<Custom> {
    const { status, body } = await this.create(this.objectOf(kind, yaml));
    expect(body).toHaveProperty('metadata.uid');
    expect(status).toBe(201);
    return objectSchema.parse(body);
  }

  async patch(object: Custom, yaml: string): Promise<ApiAnswer> {
    const body: unknown = parse(yaml, { version: '1.1' });
    return this.server.send('PATCH', `${pathOf(object)}?fieldValidation=Strict`, {
      body,
      contentType: 'application/merge-patch+json',
    });
  }

  /** Server-side apply of a status, as a role does it. */
  async report(object: Custom, manager: string, status: object): Promise<ApiAnswer> {
    const { apiVersion, kind, metadata } = object;
    const query = `fieldManager=${manager}&force=true&fieldValidation=Strict`;
    return this.server.send('PATCH', `${pathOf(object)}/status?${query}`, {
      body: { apiVersion, kind, metadata: { name: metadata.name }, status },
      contentType: 'application/apply-patch+yaml',
    });
  }

  /** What `kubectl get` shows of an object, with -o wide or not: cells by the names of their columns. */
  async rowOf(object: Custom, { wide }: { wide: boolean }): Promise<Record<string, unknown>> {
    const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';
    const answer = await this.server.send('GET', pathOf(object), { accept });
    const { columnDefinitions, rows } = tableSchema.parse(answer.body);
    const cells = columnDefinitions.map(({ name, priority }, index) => ({
      name,
      priority,
      cell: rows[0]?.cells[index],
    }));
    const shown = cells.filter(({ priority }) => wide || priority === 0);
    return Object.fromEntries(shown.map(({ name, cell }) => [name, cell]));
  }
}

export function pathOf({ kind, metadata }: Custom): string {
  return `${collections[kind]}/${metadata.name}`;
}

/** What the API server says of a request that it refuses; it must have understood its own rules. */
export function refusalOf({ status, body }: ApiAnswer): string {
  const { message } = z.object({ message: z.string() }).parse(body);
  expect([400, 422]).toContain(status);
  expect(message).not.toContain('evaluation error');
  return message;
}

export function condition(type: string, status: string, reason: string, message = ''): object {
  return { type, status, reason, message, lastTransitionTime: '2026-01-02T03:04:05Z', observedGeneration: 1 };
}
