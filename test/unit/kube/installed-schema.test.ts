import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { schemaVersion } from '../../../src/api/names.ts';
import { assertInstalledSchema, untilInstalledSchema } from '../../../src/kube/installed-schema.ts';
import type { Json } from '../../fakes/api-patch.ts';
import { type Scene, startScene, until } from '../../fakes/kube-scene.ts';

const definitionType = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  kind: 'CustomResourceDefinition',
  plural: 'customresourcedefinitions',
  namespaced: false,
};
const crds = path.resolve(import.meta.dirname, '../../../crds');

let scene: Scene;
let stop: AbortController;

beforeEach(async () => {
  scene = await startScene({ types: [definitionType] });
  stop = new AbortController();
});
afterEach(() => scene.stop());

function install(): void {
  for (const file of readdirSync(crds)) {
    const definition = parse(readFileSync(path.join(crds, file), 'utf8')) as Json;
    scene.server.objects.create({ type: definitionType, namespace: '' }, definition);
  }
}

function annotate(name: string, version: string | null): void {
  const address = { type: definitionType, namespace: '', name, subresource: '' };
  const patch = { metadata: { annotations: { 'lamina.storage/schema-version': version } } };
  scene.server.objects.mergePatch(address, patch);
}

const check = () => {
  const { client, clock, logger } = scene;
  return assertInstalledSchema({ client, clock, random: () => 0, logger }, stop.signal);
};

async function failureOf(promise: Promise<unknown>) {
  return promise.then(
    () => expect.unreachable('it succeeded'),
    (error: unknown) => error as { code?: string; message: string },
  );
}

describe('the definitions of our kinds', () => {
  it('are those of this program, or newer ones', async () => {
    install();
    await check();
    annotate('diskimages.lamina.storage', String(schemaVersion + 1));
    await check();
  });

  it('are missed where one is not there, with what to do', async () => {
    expect(await failureOf(check())).toMatchObject({
      code: 'resource-invalid',
      message:
        'the definition diskimages.lamina.storage is not installed: apply those that belong to this program (kubectl apply --server-side -f crds/)',
    });
    install();
    scene.server.objects.remove({
      type: definitionType,
      namespace: '',
      name: 'diskpools.lamina.storage',
      subresource: '',
    });
    expect((await failureOf(check())).message).toContain('diskpools.lamina.storage is not installed');
  });

  it.each([
    [String(schemaVersion - 1), schemaVersion > 1 ? 'is of schema version' : 'does not say of which version it is'],
    ['', 'does not say of which version it is'],
    [null, 'does not say of which version it is'],
    ['new', 'does not say of which version it is'],
  ])("are refused with the version '%s'", async (version, words) => {
    install();
    annotate('disksnapshots.lamina.storage', version);
    expect((await failureOf(check())).message).toContain(`disksnapshots.lamina.storage ${words}`);
  });

  it('are waited for where the API server cannot be reached, until the process is to stop', async () => {
    install();
    await scene.server.stop();
    const checking = check();
    await until(() => scene.clock.pending.includes(500));
    await scene.server.start();
    scene.clock.advance(500);
    await checking;
    expect(scene.logger.entries).toHaveLength(1);
    await scene.server.stop();
    const stopped = failureOf(check());
    await until(() => scene.clock.pending.includes(500));
    stop.abort();
    await stopped;
    expect(scene.clock.pending).toEqual([]);
  });

  it('that may not be read are a failure at once', async () => {
    scene.server.inject({ fault: { kind: 'status', status: 403, reason: 'Forbidden' } });
    expect((await failureOf(check())).code).toBe('api-refused');
  });

  it('are looked at again by whoever has something else to do meanwhile', async () => {
    const { client, clock, logger } = scene;
    const told: string[] = [];
    const options = { client, clock, random: () => 0, logger };
    const waiting = untilInstalledSchema(options, stop.signal, ({ message }) => told.push(message));
    await until(() => clock.pending.includes(15_000));
    expect(told).toEqual([expect.stringContaining('is not installed')]);
    install();
    clock.advance(15_000);
    await waiting;
    expect(told).toHaveLength(1);
    expect(clock.pending).toEqual([]);
  });
});
