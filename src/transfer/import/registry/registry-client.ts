import type { IncomingMessage } from 'node:http';
import * as z from 'zod';
import { LaminaError } from '../../../lib/errors.ts';
import { parseJson } from '../../../lib/parse-json.ts';
import { refusal, type Remote } from '../download.ts';
import { httpGet, unreachable } from '../http-get.ts';
import type { ImportContext } from '../import-request.ts';
import { apiOf, type ImageReference, isLocal } from './image-reference.ts';
import type { Login } from './pull-secret.ts';

/** Manifests are refused beyond it, by registries too. */
const maxManifestBytes = 4 * 1024 * 1024;
const maxTokenBytes = 64 * 1024;
/** A token is not used any more shortly before it ends. */
const marginMs = 10_000;

const tokenSchema = z.object({
  token: z.string().optional(),
  access_token: z.string().optional(),
  /** As the specification of tokens has it where nothing is said. */
  expires_in: z.number().positive().default(60),
});

export interface RegistryAccess {
  reference: ImageReference;
  login: Login | null;
  certificateAuthority: string | null;
  signal: AbortSignal;
}

/** Reads one repository of a registry (OCI distribution specification), and logs in as it is told to. */
export class RegistryClient {
  readonly #context: Pick<ImportContext, 'clock' | 'stallMs' | 'mayReachItself'>;
  readonly #access: RegistryAccess;
  readonly #api: string;
  /** How the registry wants to be asked; null: nobody has asked it yet, or anybody may. */
  #challenge: string | null = null;
  #authorization: { header: string; endsMs: number } | null = null;

  constructor(context: Pick<ImportContext, 'clock' | 'stallMs' | 'mayReachItself'>, access: RegistryAccess) {
    this.#context = context;
    this.#access = access;
    this.#api = apiOf(access.reference);
  }

  /**
   * The bytes of a manifest, of which nothing is checked.
   * @param version a tag or a digest
   * @throws LaminaError `source-unavailable`, `source-denied`
   */
  async manifest(version: string, mediaTypes: readonly string[]): Promise<Buffer> {
    const url = `${this.#api}/manifests/${version}`;
    const headers = { accept: mediaTypes.join(', ') };
    let answer = await this.#get(url, { ...headers, ...(await this.#headers()) });
    if (answer.statusCode === 401 && this.#challenge === null) {
      answer.destroy();
      this.#challenge = answer.headers['www-authenticate'] ?? '';
      answer = await this.#get(url, { ...headers, ...(await this.#headers()) });
    }
    return read(url, answer, maxManifestBytes);
  }

  /** Where a blob is; a manifest was read before, so that it is known how to log in. */
  blob(digest: string, sizeBytes: number): Remote {
    return {
      url: `${this.#api}/blobs/${digest}`,
      certificateAuthority: this.#access.certificateAuthority,
      headers: () => this.#headers(),
      fixedBytes: sizeBytes,
    };
  }

  /** With a token that is good for a while. */
  async #headers(): Promise<Record<string, string>> {
    if (this.#challenge === null) return {};
    if (this.#authorization === null || this.#authorization.endsMs < this.#context.clock.elapsedMs()) {
      this.#authorization = await this.#authorize(this.#challenge);
    }
    return { authorization: this.#authorization.header };
  }

  async #authorize(challenge: string): Promise<{ header: string; endsMs: number }> {
    const { login, reference } = this.#access;
    const basic = login && `Basic ${Buffer.from(`${login.user}:${login.password}`).toString('base64')}`;
    if (/^basic\b/i.test(challenge) && basic !== null) return { header: basic, endsMs: Number.POSITIVE_INFINITY };
    if (!/^bearer\b/i.test(challenge)) {
      throw new LaminaError(
        'source-denied',
        `${reference.registry} wants a login: name a pull secret that has one for it`,
      );
    }
    const url = this.#tokenUrl(challenge);
    const answer = await this.#get(url.href, basic === null ? {} : { authorization: basic });
    const bytes = await read(url.origin + url.pathname, answer, maxTokenBytes);
    const { data } = tokenSchema.safeParse(parseJson(bytes.toString('utf8')));
    const token = data?.token ?? data?.access_token;
    if (!data || token === undefined) throw new LaminaError('source-denied', `${url.origin} answers with no token`);
    const endsMs = this.#context.clock.elapsedMs() + data.expires_in * 1000 - marginMs;
    return { header: `Bearer ${token}`, endsMs };
  }

  /** Where a token is to be had. A login is never sent without TLS, but to this machine. */
  #tokenUrl(challenge: string): URL {
    const { registry } = this.#access.reference;
    const fields = new Map(
      Array.from(challenge.matchAll(/(\w+)="([^"]*)"/g), ([, key = '', value = '']) => [key, value]),
    );
    const url = URL.parse(fields.get('realm') ?? '');
    if (!url || (url.protocol !== 'https:' && !(isLocal(registry) && isLocal(url.host)))) {
      throw new LaminaError(
        'source-denied',
        `${registry} names no https URL for tokens: '${fields.get('realm') ?? ''}'`,
      );
    }
    const service = fields.get('service');
    if (service !== undefined) url.searchParams.set('service', service);
    // The name of the repository as the API has it, which is not always the one that people write.
    const name = new URL(this.#api).pathname.slice('/v2/'.length);
    url.searchParams.set('scope', fields.get('scope') ?? `repository:${name}:pull`);
    return url;
  }

  async #get(url: string, headers: Record<string, string>): Promise<IncomingMessage> {
    const { certificateAuthority, signal } = this.#access;
    const { authorization, ...others } = headers;
    // What logs in goes to the origin of the URL only.
    const source = { url, headers: authorization === undefined ? {} : { authorization }, certificateAuthority };
    const { stallMs, mayReachItself } = this.#context;
    return httpGet({ source, headers: others, stallMs, mayReachItself, signal });
  }
}

/** A small answer, whole. */
async function read(url: string, answer: IncomingMessage, maxBytes: number): Promise<Buffer> {
  try {
    if (answer.statusCode !== 200) throw refusal(url, answer);
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxBytes) throw new LaminaError('source-denied', `${url} answers with more than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } catch (error) {
    throw error instanceof LaminaError ? error : unreachable(url, error);
  } finally {
    answer.destroy();
  }
}
