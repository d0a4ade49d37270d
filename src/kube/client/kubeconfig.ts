import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import type { Clock } from '../../lib/clock.ts';
import { LaminaError, messageOf } from '../../lib/errors.ts';
import type { Connection, Secret } from './connection.ts';
import { FileSource } from './file-source.ts';

const text = z.string().min(1).optional();
const absent = (message: string) => z.undefined(message).optional();

const clusterSchema = z.object({
  server: z.url({ protocol: /^https?$/ }),
  'certificate-authority': text,
  'certificate-authority-data': text,
  'tls-server-name': text,
  'insecure-skip-tls-verify': z.boolean().optional(),
  'proxy-url': absent('proxies are not supported'),
});

const unsupported = 'is not supported: use a token or a client certificate';
const userSchema = z.object({
  token: text,
  tokenFile: text,
  'client-certificate': text,
  'client-certificate-data': text,
  'client-key': text,
  'client-key-data': text,
  exec: absent(`exec ${unsupported}`),
  'auth-provider': absent(`auth-provider ${unsupported}`),
  username: absent(`a password ${unsupported}`),
});

const kubeconfigSchema = z.object({
  'current-context': z.string(),
  clusters: z.array(z.object({ name: z.string(), cluster: z.unknown() })),
  users: z.array(z.object({ name: z.string(), user: z.unknown() })).nullish(),
  contexts: z.array(
    z.object({
      name: z.string(),
      context: z.object({ cluster: z.string(), user: z.string().optional(), namespace: z.string().optional() }),
    }),
  ),
});

type Cluster = z.infer<typeof clusterSchema>;
type User = z.infer<typeof userSchema>;

/**
 * The connection of a kubeconfig file's current context, with a token or a client certificate; other ways to
 * authenticate run programs or need a browser, which a server has no use for.
 *
 * @throws LaminaError `invalid-parameter` that says what is missing or not supported
 */
export async function kubeconfigConnection(file: string, clock: Clock): Promise<Connection> {
  const config = check(kubeconfigSchema, await readYaml(file), file);
  const wanted = config['current-context'];
  const context = config.contexts.find(({ name }) => name === wanted)?.context;
  if (!context) throw invalid(file, `its current-context '${wanted}' is not among its contexts`);
  const found = config.clusters.find(({ name }) => name === context.cluster)?.cluster;
  if (!found) throw invalid(file, `it has no cluster '${context.cluster}'`);
  const cluster = check(clusterSchema, found, file);
  const user = check(userSchema, config.users?.find(({ name }) => name === context.user)?.user ?? {}, file);
  return connectionOf(cluster, user, context.namespace ?? 'default', (data, name) => {
    if (data !== undefined) return Buffer.from(data, 'base64').toString('utf8');
    // Relative to the file, as kubectl takes them.
    return name === undefined ? undefined : new FileSource(path.resolve(path.dirname(file), name), clock);
  });
}

function connectionOf(
  cluster: Cluster,
  user: User,
  namespace: string,
  secret: (data: string | undefined, name: string | undefined) => Secret | undefined,
): Connection {
  const certificate = secret(user['client-certificate-data'], user['client-certificate']);
  const key = secret(user['client-key-data'], user['client-key']);
  return {
    server: new URL(cluster.server),
    certificateAuthority: secret(cluster['certificate-authority-data'], cluster['certificate-authority']),
    tlsServerName: cluster['tls-server-name'],
    insecureSkipTlsVerify: cluster['insecure-skip-tls-verify'],
    token: user.token ?? secret(undefined, user.tokenFile),
    clientCertificate: certificate && key ? { certificate, key } : undefined,
    namespace,
  };
}

async function readYaml(file: string): Promise<unknown> {
  try {
    return parse(await readFile(file, 'utf8'));
  } catch (error) {
    throw invalid(file, messageOf(error), error);
  }
}

function check<T>(schema: z.ZodType<T>, value: unknown, file: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw invalid(file, z.prettifyError(result.error).replaceAll('\n', ' '));
}

function invalid(file: string, what: string, cause?: unknown): LaminaError {
  return new LaminaError('invalid-parameter', `the kubeconfig ${file} cannot be used: ${what}`, { cause });
}
