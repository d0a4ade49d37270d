import type { DiskImage } from '../api/objects.ts';
import { ApiError } from '../kube/api-error.ts';
import type { ConfigMap, Secret } from '../kube/core-kinds.ts';
import type { KubeObject } from '../kube/objects.ts';
import type { ResourceClient } from '../kube/resource-client.ts';
import { LaminaError } from '../lib/errors.ts';
import type { HttpSource } from '../transfer/import/import-request.ts';

/** What an import may need of the DiskImage's namespace. */
export interface ImportSecrets {
  secrets: ResourceClient<Secret>;
  configMaps: ResourceClient<ConfigMap>;
}

type HttpSpec = Extract<DiskImage['spec']['source'], { type: 'http' }>['http'];

/** Keys of ConfigMaps with certificates, in all of Kubernetes. */
const certificateKey = 'ca.crt';

/**
 * The web server that a DiskImage is imported from, with what its Secret and ConfigMap hold.
 *
 * @throws LaminaError `source-denied` where one of them is not there or may not be read
 */
export async function httpSourceOf(
  { metadata: { namespace } }: DiskImage,
  { url, checksum, headersSecret, certificateAuthority }: HttpSpec,
  { secrets, configMaps }: ImportSecrets,
  signal: AbortSignal,
): Promise<HttpSource> {
  const read = <T extends KubeObject>(resources: ResourceClient<T>, name: string) =>
    readNamed(resources, { namespace, name }, signal);
  const headers = headersSecret === undefined ? {} : (await read(secrets, headersSecret)).data;
  const certificates = certificateAuthority === undefined ? null : await read(configMaps, certificateAuthority);
  return {
    kind: 'http',
    url,
    checksum: checksum ?? null,
    headers,
    certificateAuthority: certificates && certificatesIn(certificates),
  };
}

function certificatesIn({ metadata, data }: ConfigMap): string {
  const certificates = data[certificateKey];
  if (certificates !== undefined) return certificates;
  throw new LaminaError('source-denied', `the ConfigMap ${metadata.name} has no key ${certificateKey}: add it`);
}

async function readNamed<T extends KubeObject>(
  resources: ResourceClient<T>,
  ref: { namespace: string | undefined; name: string },
  signal: AbortSignal,
): Promise<T> {
  const what = `${resources.type.kind} ${ref.name} in the namespace ${ref.namespace}`;
  try {
    const object = await resources.get(ref, { signal });
    if (object) return object;
  } catch (error) {
    if (!(error instanceof ApiError && error.failure.status === 403)) throw error;
    throw new LaminaError(
      'source-denied',
      `${what} may not be read by the node plugin: bind the ClusterRole lamina-import to its ServiceAccount with a RoleBinding in that namespace`,
      { cause: error },
    );
  }
  throw new LaminaError('source-denied', `there is no ${what}: create it, or declare the DiskImage without it`);
}
