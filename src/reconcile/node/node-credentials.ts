import { randomBytes } from 'node:crypto';
import { transferSignerName } from '../../api/names.ts';
import type { CertificateSigningRequest } from '../../kube/kinds/certificate-requests.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import { Backoff } from '../../lib/backoff.ts';
import { type Clock, pause } from '../../lib/clock.ts';
import { isLaminaError, LaminaError, messageOf } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { needsRenewal, newCertificateRequest } from '../../transfer/identity/certificates.ts';
import type { Credentials } from '../../transfer/identity/credentials.ts';

export interface NodeCredentialsOptions {
  requests: ResourceClient<CertificateSigningRequest>;
  nodeName: string;
  /** Called with each new certificate. */
  onChange: (credentials: Credentials) => Promise<void>;
  clock: Clock;
  random: () => number;
  logger: Logger;
}

const lookMs = 60_000;
const pollMs = 500;
/** As long as a controller may take to be elected, and more; then it is looked only now and then. */
const answerMs = 60_000;
/** Who was denied is denied again until a person has done something; and each request is an object that stays for a while. */
const longestDenialMs = 3_600_000;

/** The certificate by which other nodes know this one: asked for of the controller, and again in time. Kept in memory only. */
export class NodeCredentials {
  readonly #options: NodeCredentialsOptions;
  readonly #denials: Backoff;
  /** Of a node that has just started, the API server may not be reached yet, and others wait for what the node has. */
  readonly #failures: Backoff;
  #current: Credentials | undefined;
  /** What was asked for and is not answered yet, so that nothing else is asked for meanwhile. */
  #asked: { name: string; key: string } | undefined;
  #complaint = '';

  constructor(options: NodeCredentialsOptions) {
    this.#options = options;
    const { random } = options;
    this.#denials = new Backoff({ baseMs: 2 * lookMs, maxMs: longestDenialMs, jitter: 0.5, random });
    this.#failures = new Backoff({ baseMs: 1000, maxMs: lookMs, jitter: 0.5, random });
  }

  /** @throws LaminaError `peer-unavailable` before there are any */
  readonly current = (): Credentials => {
    if (this.#current) return this.#current;
    throw new LaminaError(
      'peer-unavailable',
      `this node has no certificate yet, by which others would know it${this.#complaint ? `: ${this.#complaint}` : ''}`,
    );
  };

  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, logger, onChange } = this.#options;
    let told: Credentials | undefined;
    while (!signal.aborted) {
      try {
        if (!this.#current || needsRenewal(this.#current.certificate, clock.now())) {
          this.#current = await this.#obtain(signal);
          logger.info({}, 'got a certificate for transfers between nodes');
        }
        if (told !== this.#current) await onChange(this.#current);
        told = this.#current;
        this.#complaint = '';
        this.#denials.reset();
        this.#failures.reset();
        await pause(clock, lookMs * (0.75 + random() / 2), signal);
      } catch (error) {
        if (signal.aborted) return;
        if (messageOf(error) !== this.#complaint) logger.warn({ error }, 'this node takes no part in transfers yet');
        this.#complaint = messageOf(error);
        const delays = isLaminaError(error, 'peer-untrusted') ? this.#denials : this.#failures;
        await pause(clock, delays.next(), signal);
      }
    }
  }

  async #obtain(signal: AbortSignal): Promise<Credentials> {
    const { clock } = this.#options;
    const asked = this.#asked;
    if (asked) return (await this.#answerTo(asked, signal)) ?? unanswered(asked);
    const asking = (this.#asked = await this.#ask(signal));
    const endMs = clock.elapsedMs() + answerMs;
    while (clock.elapsedMs() < endMs) {
      await pause(clock, pollMs, signal);
      signal.throwIfAborted();
      const credentials = await this.#answerTo(asking, signal);
      if (credentials) return credentials;
    }
    return unanswered(asking);
  }

  async #ask(signal: AbortSignal): Promise<{ name: string; key: string }> {
    const { requests, nodeName } = this.#options;
    const { key, request } = await newCertificateRequest();
    const name = `lamina-${nodeName}-${randomBytes(5).toString('hex')}`;
    const manifest = {
      metadata: { name },
      spec: {
        signerName: transferSignerName,
        request: Buffer.from(request).toString('base64'),
        usages: ['digital signature', 'server auth', 'client auth'],
      },
    };
    await requests.create(manifest, { signal });
    return { name, key };
  }

  /** @returns undefined where nobody has answered yet */
  async #answerTo({ name, key }: { name: string; key: string }, signal: AbortSignal): Promise<Credentials | undefined> {
    const answer = await this.#options.requests.get({ name }, { signal });
    if (answer && answer.refusal === undefined && answer.certificate === undefined) return undefined;
    // Where it is gone, unanswered, it is asked for anew.
    this.#asked = undefined;
    if (answer?.certificate !== undefined) return credentialsOf(answer.certificate, key);
    if (!answer) throw new LaminaError('timeout', `the CertificateSigningRequest ${name} is gone, unsigned`);
    throw new LaminaError('peer-untrusted', `the CertificateSigningRequest ${name} was denied: ${answer.refusal}`);
  }
}

/** @throws LaminaError `timeout` */
function unanswered({ name }: { name: string }): never {
  throw new LaminaError('timeout', `nobody has signed the CertificateSigningRequest ${name}; is a controller elected?`);
}

/** The node's certificate comes first, then all authorities. */
function credentialsOf(chain: string, key: string): Credentials {
  const [certificate, ...authorities] =
    chain.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g) ?? [];
  if (certificate === undefined || authorities.length === 0) {
    throw new LaminaError('peer-untrusted', 'what was signed is no certificate with its authorities');
  }
  return { certificate, key, authorities };
}
