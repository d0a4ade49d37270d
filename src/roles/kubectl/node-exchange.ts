import { once } from 'node:events';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { request } from 'node:https';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { type DiskPool, diskPools } from '../../api/objects.ts';
import type { ExchangeOptions } from '../../config/kubectl.ts';
import type { KubeClient } from '../../kube/client/client.ts';
import { type Connection, revealSecret } from '../../kube/client/connection.ts';
import { ResourceClient } from '../../kube/client/resource-client.ts';
import { LaminaError, messageOf } from '../../lib/errors.ts';
import { parsePortAddress } from '../../telemetry/listen-address.ts';

export interface NodeExchangeOptions extends ExchangeOptions {
  client: KubeClient;
  connection: Connection;
  namespace: string;
}

export interface NodeRequest {
  method: 'GET' | 'HEAD' | 'PUT';
  path: string;
  headers?: Record<string, string>;
  body?: Readable;
}

type Where = NonNullable<DiskPool['status']['export']>;

/** A connection on which nothing moves for so long is given up; a node reads what has come of an upload before it goes on. */
const idleMs = 300_000;
const tokenSeconds = 3600;
const tokenSchema = z.object({ status: z.object({ token: z.string() }) });
const misdirected = 421;
const answerSchema = z.object({ code: z.string(), message: z.string(), nodeName: z.string().optional() });

/** Asks the node that has something, with a token and by the certificates that its DiskPool tells. */
export class NodeExchange {
  readonly #options: NodeExchangeOptions;
  #token: string | undefined;
  #where: Where | undefined;

  constructor(options: NodeExchangeOptions) {
    this.#options = options;
  }

  /**
   * Asks the node of that name, or any where it is not known, and then the one that says it has it.
   *
   * @returns the head of an answer of success; its body is to be read
   * @throws LaminaError `peer-unavailable` where nobody answers; `transfer-failed`, `checksum-mismatch` where the answer is no
   */
  async ask(wanted: NodeRequest, nodeName: string | undefined): Promise<IncomingMessage> {
    this.#where ??= await this.#find(nodeName);
    const answer = await this.#send(wanted, this.#where);
    const { statusCode: status = 0 } = answer;
    if (status >= 200 && status < 300) return answer;
    const text = Buffer.concat((await answer.toArray()) as Buffer[]).toString('utf8');
    const { code, message, nodeName: other } = explanationIn(text) ?? { code: '', message: text.slice(0, 300) };
    if (status !== misdirected || other === undefined || nodeName === other || wanted.body) {
      const kind = code === 'checksum-mismatch' ? code : 'transfer-failed';
      throw new LaminaError(kind, `the node answers ${status} ${message}`.trim());
    }
    this.#where = await this.#find(other);
    return this.ask(wanted, other);
  }

  async #find(nodeName: string | undefined): Promise<Where> {
    const pools = await new ResourceClient(this.#options.client, diskPools).list();
    const known = pools.filter(({ spec }) => nodeName === undefined || spec.nodeName === nodeName);
    const found = known.find(({ status }) => status.export)?.status.export;
    if (found) return found;
    throw new LaminaError(
      'peer-unavailable',
      `${nodeName === undefined ? 'no node' : `node ${nodeName} does not`} export or take uploads: export.enabled of the chart is wanted (docs/operators/export.md)`,
    );
  }

  async #send({ method, path, headers, body }: NodeRequest, where: Where): Promise<IncomingMessage> {
    this.#token ??= await this.#findToken();
    const { host, port } = parsePortAddress(this.#options.address ?? where.address);
    const { serverName: servername, certificateAuthority: ca } = where;
    const own = { host: servername, authorization: `Bearer ${this.#token}` };
    // A node that does not want it says so before it is sent.
    const expect = body ? { expect: '100-continue' } : {};
    const options = { method, path, host, port, servername, ca, agent: false, timeout: idleMs } as const;
    const sent = request({ ...options, headers: { ...own, ...expect, ...headers } });
    try {
      return await answerTo(sent, body);
    } catch (error) {
      sent.destroy();
      body?.destroy();
      const message = `${host}:${port}: ${messageOf(error)}${wayAround(where)}`;
      throw new LaminaError('peer-unavailable', message, { cause: error });
    }
  }

  async #findToken(): Promise<string> {
    const { client, connection, namespace, serviceAccount } = this.#options;
    if (serviceAccount === null) {
      const token = await revealSecret(connection.token);
      if (token !== undefined) return token.trim();
      throw new LaminaError(
        'invalid-parameter',
        'nodes know people by tokens, and the kubeconfig has none: name a ServiceAccount that may do it (--service-account), whose token is asked for',
      );
    }
    const answer = await client.request({
      method: 'POST',
      path: `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`,
      body: {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: { expirationSeconds: tokenSeconds },
      },
    });
    return tokenSchema.parse(answer).status.token;
  }
}

async function answerTo(sent: ClientRequest, body: Readable | undefined): Promise<IncomingMessage> {
  sent.on('timeout', () => sent.destroy(new Error(`nothing moved for ${idleMs / 1000} s`)));
  const answered = once(sent, 'response') as Promise<[IncomingMessage]>;
  if (body) sent.once('continue', () => void pipeline(body, sent).catch(() => {}));
  else sent.end();
  const [answer] = await answered;
  // Whoever reads it is told by the reading.
  answer.on('error', () => {});
  return answer;
}

function wayAround({ address, podNamespace, podName }: Where): string {
  if (podName === undefined) return '';
  const port = address.slice(address.lastIndexOf(':') + 1);
  return `. Where it cannot be reached from here, run: kubectl -n ${podNamespace} port-forward pod/${podName} ${port}, and add --address 127.0.0.1:${port}`;
}

function explanationIn(text: string): z.infer<typeof answerSchema> | undefined {
  try {
    return answerSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
