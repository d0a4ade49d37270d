import { createHmac, randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '../../lib/clock.ts';
import { LaminaError } from '../../lib/errors.ts';
import { ApiError } from './api-error.ts';
import type { KubeClient } from './client.ts';

/** Whether the bearer of a token may do it: yes, no, or the API server does not know who that is. */
export type TokenVerdict = 'allowed' | 'forbidden' | 'unauthenticated';

export interface TokenReviewOptions {
  client: KubeClient;
  clock: Clock;
}

/** What is to be done with an object, or with what is below it. */
export interface ResourceAccess {
  group: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  verb: string;
}

/** What is to be done: that, or to get a path that is no resource of Kubernetes', such as `/metrics`. */
export type Access = ResourceAccess | { path: string };

const userSchema = z.object({
  username: z.string().optional(),
  uid: z.string().optional(),
  groups: z.array(z.string()).nullish(),
  extra: z.record(z.string(), z.array(z.string())).nullish(),
});
const tokenReviewSchema = z.object({
  status: z.object({ authenticated: z.boolean().optional(), user: userSchema.optional() }),
});
const accessReviewSchema = z.object({ status: z.object({ allowed: z.boolean().optional() }) });
type User = z.infer<typeof userSchema>;

/** As Kubernetes' own components: for how long an answer is believed. A token that was taken back works so long. */
const allowedMs = 60_000;
const refusedMs = 10_000;
const maxVerdicts = 256;
/** So that whoever sends made-up tokens does not keep the API server busy. */
const maxReviews = 4;

/** Asks the API server who the bearer of a token is and whether that one may do something. Keeps no token, only a digest of it. */
export class TokenReview {
  readonly #options: TokenReviewOptions;
  readonly #digestKey = randomBytes(32);
  /** By digest; what was asked for first comes first. */
  readonly #verdicts = new Map<string, { verdict: TokenVerdict; untilMs: number }>();
  readonly #reviews = new Map<string, Promise<TokenVerdict>>();

  constructor(options: TokenReviewOptions) {
    this.#options = options;
  }

  /**
   * @throws LaminaError `busy` where too many are asked for at once; as KubeClient's `request` where the API server
   *   does not answer, or does not let us ask
   */
  readonly authorize = async (token: string, access: Access): Promise<TokenVerdict> => {
    const digest = createHmac('sha256', this.#digestKey)
      .update(JSON.stringify([token, access]))
      .digest('base64');
    const known = this.#verdicts.get(digest);
    if (known && this.#options.clock.elapsedMs() < known.untilMs) return known.verdict;
    const running = this.#reviews.get(digest);
    if (running) return running;
    if (this.#reviews.size >= maxReviews) throw new LaminaError('busy', 'too many tokens are being reviewed');
    const review = this.#review(token, access).finally(() => this.#reviews.delete(digest));
    this.#reviews.set(digest, review);
    const verdict = await review;
    this.#remember(digest, verdict);
    return verdict;
  };

  async #review(token: string, access: Access): Promise<TokenVerdict> {
    const user = await this.#userOf(token);
    if (!user) return 'unauthenticated';
    return (await this.#may(user, access)) ? 'allowed' : 'forbidden';
  }

  async #userOf(token: string): Promise<User | undefined> {
    const answer = await this.#ask('authentication.k8s.io', 'TokenReview', { token });
    const { authenticated, user } = parse(tokenReviewSchema, answer, 'TokenReview').status;
    return authenticated ? user : undefined;
  }

  async #may({ username, uid, groups, extra }: User, access: Access): Promise<boolean> {
    const attributes =
      'path' in access ? { nonResourceAttributes: { path: access.path, verb: 'get' } } : { resourceAttributes: access };
    const spec = { user: username, uid, groups, extra, ...attributes };
    const answer = await this.#ask('authorization.k8s.io', 'SubjectAccessReview', spec);
    return parse(accessReviewSchema, answer, 'SubjectAccessReview').status.allowed ?? false;
  }

  async #ask(group: string, kind: string, spec: object): Promise<unknown> {
    return this.#options.client.request({
      method: 'POST',
      path: `/apis/${group}/v1/${kind.toLowerCase()}s`,
      body: { apiVersion: `${group}/v1`, kind, spec },
      timeoutMs: 5000,
    });
  }

  #remember(digest: string, verdict: TokenVerdict): void {
    const untilMs = this.#options.clock.elapsedMs() + (verdict === 'allowed' ? allowedMs : refusedMs);
    this.#verdicts.delete(digest);
    this.#verdicts.set(digest, { verdict, untilMs });
    const [oldest] = this.#verdicts.keys();
    if (this.#verdicts.size > maxVerdicts && oldest !== undefined) this.#verdicts.delete(oldest);
  }
}

function parse<T>(schema: z.ZodType<T>, answer: unknown, kind: string): T {
  const result = schema.safeParse(answer);
  if (result.success) return result.data;
  throw new ApiError(`the API server's answer is no ${kind}`, { status: 502 });
}
