import type { IncomingMessage, ServerResponse } from 'node:http';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';

/** Whether the bearer of a token may read metrics: yes, no, or nobody knows who that is. */
export type Verdict = 'allowed' | 'forbidden' | 'unauthenticated';

export type Authorize = (token: string) => Promise<Verdict>;

export interface AnswerOptions {
  /** As for CSI's Probe: false while starting, throws where something is wrong. */
  ready: () => Promise<boolean>;
  metrics: { readonly contentType: string; metrics(): Promise<string> };
  /** Who may read metrics; whoever asks, where it is not given. */
  authorize?: Authorize | undefined;
  logger: Logger;
}

interface Answer {
  status: number;
  body: string;
  headers?: Record<string, string>;
}

const bearer = /^Bearer +([A-Za-z0-9._~+/=-]+) *$/i;
const unauthenticated: Answer = {
  status: 401,
  body: 'metrics are for those with a bearer token of this cluster\n',
  headers: { 'www-authenticate': 'Bearer' },
};
const forbidden: Answer = { status: 403, body: 'the bearer of this token may not get /metrics\n' };

/** The answers of a process to those who watch it. Where there is `authorize`, strangers ask, and are told no reasons. */
export class HealthAnswers {
  readonly #options: AnswerOptions;
  /** One look at a time, however many ask. */
  #looking: Promise<Answer> | undefined;
  /** What was logged last of each trouble, so that those who ask often do not fill the log. */
  readonly #complaints = new Map<string, string>();

  constructor(options: AnswerOptions) {
    this.#options = options;
  }

  /** Never rejects. */
  async reply({ method, url = '/', headers }: IncomingMessage, response: ServerResponse): Promise<void> {
    const answer = await this.#answer(method, url, headers.authorization).catch((error: unknown): Answer => {
      this.#complain(error, 'a health request failed');
      return { status: 500, body: 'failed; the log says why\n' };
    });
    response.writeHead(answer.status, {
      'content-type': 'text/plain; charset=utf-8',
      'content-length': Buffer.byteLength(answer.body),
      'cache-control': 'no-store',
      ...answer.headers,
    });
    response.end(answer.body);
  }

  async #answer(method: string | undefined, url: string, authorization: string | undefined): Promise<Answer> {
    if (method !== 'GET' && method !== 'HEAD')
      return { status: 405, body: 'GET it\n', headers: { allow: 'GET, HEAD' } };
    switch (url.split('?')[0]) {
      case '/healthz':
        return { status: 200, body: 'ok\n' };
      case '/readyz':
        this.#looking ??= this.#readiness().finally(() => {
          this.#looking = undefined;
        });
        return this.#looking;
      case '/metrics':
        return (await this.#refusal(authorization)) ?? this.#metrics();
      default:
        return { status: 404, body: 'there are /healthz, /readyz and /metrics\n' };
    }
  }

  async #readiness(): Promise<Answer> {
    const { ready, authorize } = this.#options;
    try {
      if (!(await ready())) return { status: 503, body: 'starting\n' };
      this.#complaints.clear();
      return { status: 200, body: 'ok\n' };
    } catch (error) {
      this.#complain(error, 'not ready');
      return { status: 503, body: authorize ? 'not ready; the log says why\n' : `${messageOf(error)}\n` };
    }
  }

  async #refusal(authorization: string | undefined): Promise<Answer | undefined> {
    const { authorize } = this.#options;
    if (!authorize) return undefined;
    const token = bearer.exec(authorization ?? '')?.[1];
    if (token === undefined) return unauthenticated;
    try {
      const verdict = await authorize(token);
      if (verdict === 'allowed') return undefined;
      return verdict === 'forbidden' ? forbidden : unauthenticated;
    } catch (error) {
      this.#complain(error, 'it cannot be told who may read metrics');
      return { status: 503, body: 'it cannot be told now who you are; try again\n', headers: { 'retry-after': '10' } };
    }
  }

  async #metrics(): Promise<Answer> {
    const { metrics } = this.#options;
    return { status: 200, body: await metrics.metrics(), headers: { 'content-type': metrics.contentType } };
  }

  #complain(error: unknown, what: string): void {
    if (this.#complaints.get(what) === messageOf(error)) return;
    this.#complaints.set(what, messageOf(error));
    this.#options.logger.warn({ error }, what);
  }
}
