import type { DiskImage } from '../../api/objects.ts';
import { ApiError } from '../../kube/client/api-error.ts';
import type { ConfigMap, Secret } from '../../kube/kinds/core-kinds.ts';
import type { KubeObject } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { ImportSource } from '../../transfer/import/import-request.ts';

/** What an import may need of the DiskImage's namespace. */
export interface ImportSecrets {
  secrets: ResourceClient<Secret>;
  configMaps: ResourceClient<ConfigMap>;
}

/** Keys of ConfigMaps with certificates, in all of Kubernetes. */
const certificateKey = 'ca.crt';
/** Of Secrets of the type kubernetes.io/dockerconfigjson. */
const dockerConfigKey = '.dockerconfigjson';

/**
 * Where a DiskImage is imported from, with what its Secret and ConfigMap hold.
 *
 * @throws LaminaError `source-denied` where one of them is not there, may not be read, or holds something else
 */
export async function importSourceOf(
  { metadata: { namespace, uid }, spec: { source } }: DiskImage,
  { secrets, configMaps }: ImportSecrets,
  signal: AbortSignal,
): Promise<ImportSource> {
  const secret = async (name: string | undefined) =>
    name === undefined ? undefined : readNamed(secrets, { namespace, name }, signal);
  const authority = async (name: string | undefined) =>
    name === undefined ? null : certificatesIn(await readNamed(configMaps, { namespace, name }, signal));
  switch (source.type) {
    case 'http': {
      const { url, checksum = null, headersSecret, certificateAuthority } = source.http;
      const headers = (await secret(headersSecret))?.data ?? {};
      return { kind: 'http', url, checksum, headers, certificateAuthority: await authority(certificateAuthority) };
    }
    case 'registry': {
      const { image, path = null, pullSecret: name, certificateAuthority } = source.registry;
      const found = await secret(name);
      const pullSecret = found ? loginsIn(found) : null;
      return { kind: 'registry', image, path, pullSecret, certificateAuthority: await authority(certificateAuthority) };
    }
    case 'upload':
      return { kind: 'upload', objectId: uid, checksum: source.upload.checksum ?? null };
    default:
      throw new LaminaError('unsupported', `nothing is imported from source.type ${source.type}`);
  }
}

function loginsIn({ metadata, data }: Secret): unknown {
  try {
    return JSON.parse(data[dockerConfigKey] ?? '');
  } catch (error) {
    throw new LaminaError(
      'source-denied',
      `the Secret ${metadata.name} has no JSON under the key ${dockerConfigKey}: make it with kubectl create secret docker-registry`,
      { cause: error },
    );
  }
}

function certificatesIn({ metadata, data }: ConfigMap): string {
  const certificates = data[certificateKey];
  // Of an empty text TLS concludes that all are to be trusted whom all programs trust.
  if (certificates?.includes('-----BEGIN CERTIFICATE-----')) return certificates;
  throw new LaminaError(
    'source-denied',
    `the ConfigMap ${metadata.name} has no certificate in PEM under the key ${certificateKey}: add it`,
  );
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
