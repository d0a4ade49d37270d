import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '../../lib/clock.ts';
import { errnoOf, LaminaError } from '../../lib/errors.ts';
import type { Connection } from './connection.ts';
import { FileSource } from './file-source.ts';

export interface InCluster {
  /** KUBERNETES_SERVICE_HOST; an IPv6 address without brackets. */
  host: string;
  /** KUBERNETES_SERVICE_PORT */
  port: string;
  /** Where kubelet keeps the service account's token, CA and namespace. */
  directory?: string;
}

const serviceAccountDirectory = '/var/run/secrets/kubernetes.io/serviceaccount';

/** The connection of a pod, as its service account. kubelet replaces the token; it is read again. @throws LaminaError `invalid-parameter` where this is no pod with a service account */
export async function inClusterConnection(
  { host, port, directory = serviceAccountDirectory }: InCluster,
  clock: Clock,
): Promise<Connection> {
  const file = (name: string) => path.join(directory, name);
  const server = URL.parse(`https://${host.includes(':') ? `[${host}]` : host}:${port}`);
  if (!server) throw new LaminaError('invalid-parameter', `'${host}' port '${port}' is no address of an API server`);
  const namespace = await readFile(file('namespace'), 'utf8').catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
    throw new LaminaError(
      'invalid-parameter',
      `there is no service account in ${directory}; run in a pod that mounts one (automountServiceAccountToken), or give a kubeconfig`,
      { cause: error },
    );
  });
  return {
    server,
    certificateAuthority: new FileSource(file('ca.crt'), clock),
    token: new FileSource(file('token'), clock),
    namespace: namespace.trim(),
  };
}
