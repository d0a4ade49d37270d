import { annotations, schemaVersion } from '../api/names.ts';
import { diskImages, diskPools, diskSnapshots } from '../api/objects.ts';
import { Backoff } from '../lib/backoff.ts';
import { type Clock, pause } from '../lib/clock.ts';
import { isLaminaError, LaminaError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { KubeClient } from './client/client.ts';
import type { KubeObject } from './objects.ts';
import { ResourceClient } from './client/resource-client.ts';
import type { ResourceType } from './client/resource-type.ts';

const definitionType: ResourceType<KubeObject> = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  kind: 'CustomResourceDefinition',
  plural: 'customresourcedefinitions',
  namespaced: false,
  parse: (json) => ({ metadata: (json as KubeObject).metadata }),
};

export interface SchemaCheckOptions {
  client: KubeClient;
  clock: Clock;
  random: () => number;
  logger: Logger;
}

/**
 * Makes sure that the definitions of our kinds are installed, and not older than this program needs them: the API
 * server would drop the fields that it does not know, silently. Waits for an API server that cannot be reached.
 *
 * @throws LaminaError `resource-invalid` that says what to apply; `api-refused`; the signal's reason
 */
export async function assertInstalledSchema(options: SchemaCheckOptions, signal: AbortSignal): Promise<void> {
  const definitions = new ResourceClient(options.client, definitionType);
  const { clock, random, logger } = options;
  const backoff = new Backoff({ baseMs: 500, maxMs: 15_000, jitter: 0.5, random });
  for (;;) {
    try {
      for (const { plural, group } of [diskImages, diskSnapshots, diskPools]) {
        await assertDefinition(definitions, `${plural}.${group}`, signal);
      }
      return;
    } catch (error) {
      if (!isLaminaError(error, 'api-unavailable', 'timeout') || signal.aborted) throw error;
      if (backoff.failures === 0) logger.warn({ error }, 'the installed definitions cannot be read; trying again');
      await pause(clock, backoff.next(), signal);
      signal.throwIfAborted();
    }
  }
}

/** How often definitions that are not the right ones are looked at again. */
const againMs = 15_000;

/**
 * Waits until the definitions of our kinds are the right ones, for whoever has something else to do meanwhile.
 *
 * @param onWrong called each time they are not, with what to do
 * @throws the signal's reason
 */
export async function untilInstalledSchema(
  options: SchemaCheckOptions,
  signal: AbortSignal,
  onWrong: (error: LaminaError) => void,
): Promise<void> {
  for (;;) {
    try {
      return await assertInstalledSchema(options, signal);
    } catch (error) {
      if (signal.aborted || !isLaminaError(error, 'resource-invalid', 'api-refused')) throw error;
      onWrong(error);
      await pause(options.clock, againMs, signal);
      signal.throwIfAborted();
    }
  }
}

async function assertDefinition(
  definitions: ResourceClient<KubeObject>,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  const definition = await definitions.get({ name }, { signal });
  if (!definition) throw outdated(`the definition ${name} is not installed`);
  const found = definition.metadata.annotations?.[annotations.schemaVersion];
  const version = /^[1-9][0-9]{0,8}$/.test(found ?? '') ? Number(found) : undefined;
  if (version === undefined) throw outdated(`the definition ${name} does not say of which version it is`);
  // Newer ones only have more.
  if (version < schemaVersion) {
    throw outdated(`the definition ${name} is of schema version ${version}, and this program needs ${schemaVersion}`);
  }
}

function outdated(problem: string): LaminaError {
  return new LaminaError(
    'resource-invalid',
    `${problem}: apply those that belong to this program (kubectl apply --server-side -f crds/)`,
  );
}
