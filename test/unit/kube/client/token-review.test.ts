import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TokenReview } from '../../../../src/kube/client/token-review.ts';
import type { FakeRequest } from '../../../fakes/api-server.ts';
import { type Scene, startScene, until } from '../../../fakes/kube-scene.ts';

const metrics = { path: '/metrics' };
let scene: Scene;
let review: TokenReview;
/** Tokens that the API server knows, with what it says of their bearers. */
const bearers: Record<string, { username: string; groups: string[]; extra?: Record<string, string[]> }> = {
  prometheus: {
    username: 'system:serviceaccount:monitoring:prometheus',
    groups: ['scrapers'],
    extra: { pod: ['p-0'] },
  },
  nobody: { username: 'nobody', groups: ['system:authenticated'] },
};

beforeEach(async () => {
  scene = await startScene();
  review = new TokenReview({ client: scene.client, clock: scene.clock });
});

afterEach(() => scene.stop());

/** Has the fake decide as the real one would. */
function answerReviews(): void {
  scene.server.inject({
    match: ({ path }) => path === '/apis/authentication.k8s.io/v1/tokenreviews',
    times: Number.POSITIVE_INFINITY,
    fault: {
      kind: 'answer',
      body: (request) => {
        const user = bearers[String(specOf(request)['token'])];
        return { status: user ? { authenticated: true, user } : { error: 'invalid bearer token' } };
      },
    },
  });
  scene.server.inject({
    match: ({ path }) => path === '/apis/authorization.k8s.io/v1/subjectaccessreviews',
    times: Number.POSITIVE_INFINITY,
    fault: {
      kind: 'answer',
      body: (request) => ({ status: { allowed: (specOf(request)['groups'] as string[]).includes('scrapers') } }),
    },
  });
}

function specOf({ body }: FakeRequest): Record<string, unknown> {
  return (body as { spec: Record<string, unknown> }).spec;
}

describe('a token', () => {
  it('is allowed where its bearer may get the path', async () => {
    answerReviews();
    expect(await review.authorize('prometheus', metrics)).toBe('allowed');
    expect(scene.server.requests.map(({ method, body }) => [method, body])).toEqual([
      ['POST', { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token: 'prometheus' } }],
      [
        'POST',
        {
          apiVersion: 'authorization.k8s.io/v1',
          kind: 'SubjectAccessReview',
          spec: {
            user: 'system:serviceaccount:monitoring:prometheus',
            groups: ['scrapers'],
            extra: { pod: ['p-0'] },
            nonResourceAttributes: { path: '/metrics', verb: 'get' },
          },
        },
      ],
    ]);
  });

  it('is forbidden where its bearer is known, but may not', async () => {
    answerReviews();
    expect(await review.authorize('nobody', metrics)).toBe('forbidden');
  });

  it('is allowed what its bearer may do with one object, and with no other', async () => {
    answerReviews();
    const access = {
      group: 'lamina.storage',
      resource: 'diskimages',
      subresource: 'export',
      namespace: 'media',
      name: 'debian',
      verb: 'get',
    };
    expect(await review.authorize('prometheus', access)).toBe('allowed');
    expect(scene.server.requests.at(-1)?.body).toMatchObject({ spec: { resourceAttributes: access } });
    await review.authorize('prometheus', access);
    expect(scene.server.requests).toHaveLength(2);
    await review.authorize('prometheus', { ...access, name: 'other' });
    expect(scene.server.requests.at(-1)?.body).toMatchObject({ spec: { resourceAttributes: { name: 'other' } } });
  });

  it('of nobody is not asked any further about', async () => {
    answerReviews();
    expect(await review.authorize('made-up', metrics)).toBe('unauthenticated');
    expect(scene.server.requests).toHaveLength(1);
  });
});

describe('an answer', () => {
  it('is believed for a minute, and asked for again then', async () => {
    answerReviews();
    await review.authorize('prometheus', metrics);
    scene.clock.advance(59_000);
    await review.authorize('prometheus', metrics);
    expect(scene.server.requests).toHaveLength(2);
    scene.clock.advance(2000);
    await review.authorize('prometheus', metrics);
    expect(scene.server.requests).toHaveLength(4);
  });

  it('that refuses is believed for ten seconds only, so that who is given the right need not wait', async () => {
    answerReviews();
    await review.authorize('made-up', metrics);
    await review.authorize('made-up', metrics);
    expect(scene.server.requests).toHaveLength(1);
    scene.clock.advance(10_001);
    await review.authorize('made-up', metrics);
    expect(scene.server.requests).toHaveLength(2);
  });

  it('is shared by those who ask at the same time', async () => {
    answerReviews();
    const verdicts = await Promise.all(Array.from({ length: 20 }, () => review.authorize('prometheus', metrics)));
    expect(new Set(verdicts)).toEqual(new Set(['allowed']));
    expect(scene.server.requests).toHaveLength(2);
  });

  it('is forgotten after 256 others', async () => {
    answerReviews();
    await review.authorize('prometheus', metrics);
    for (let other = 0; other < 256; other++) await review.authorize(`made-up-${other}`, metrics);
    scene.server.requests.length = 0;
    await review.authorize('prometheus', metrics);
    expect(scene.server.requests).toHaveLength(2);
  });
});

describe('trouble', () => {
  it('of the API server is no verdict, and is not remembered', async () => {
    scene.server.inject({ fault: { kind: 'status', status: 500 } });
    await expect(review.authorize('prometheus', metrics)).rejects.toMatchObject({ code: 'api-unavailable' });
    answerReviews();
    expect(await review.authorize('prometheus', metrics)).toBe('allowed');
  });

  it('of our own rights says so', async () => {
    scene.server.inject({ fault: { kind: 'status', status: 403, reason: 'Forbidden' } });
    await expect(review.authorize('prometheus', metrics)).rejects.toMatchObject({ code: 'api-refused' });
  });

  it('by an answer that is no review is none that lets anybody in', async () => {
    scene.server.inject({ fault: { kind: 'garbage', text: '{"status":{"authenticated":"yes"}}' } });
    await expect(review.authorize('prometheus', metrics)).rejects.toMatchObject({ code: 'api-unavailable' });
  });

  it('by made-up tokens does not keep the API server busy: only four are reviewed at once', async () => {
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    scene.server.inject({ fault: { kind: 'slow', until: released }, times: 4 });
    const running = ['a', 'b', 'c', 'd'].map((token) => review.authorize(token, metrics).catch(() => 'failed'));
    await until(() => scene.server.requests.length === 4);
    await expect(review.authorize('e', metrics)).rejects.toMatchObject({ code: 'busy' });
    release();
    await Promise.all(running);
    answerReviews();
    expect(await review.authorize('prometheus', metrics)).toBe('allowed');
  });

  it('never shows a token', async () => {
    scene.server.inject({ fault: { kind: 'status', status: 500 } });
    const error: unknown = await review.authorize('tops3cret', metrics).catch((reason: unknown) => reason);
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('tops3cret');
  });
});
