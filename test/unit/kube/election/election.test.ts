import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ApiClient } from '../../../../src/kube/client/client.ts';
import { type ElectionOptions, runElected } from '../../../../src/kube/election/election.ts';
import { fencedClient } from '../../../../src/kube/election/fenced-client.ts';
import type { Leadership } from '../../../../src/kube/election/leadership.ts';
import { ResourceClient } from '../../../../src/kube/client/resource-client.ts';
import type { FakeObject } from '../../../fakes/api-objects.ts';
import type { FakeRequest } from '../../../fakes/api-server.ts';
import { type Scene, startScene, thingType, until } from '../../../fakes/kube-scene.ts';
import { ManualClock } from '../../../fakes/manual-clock.ts';
import { MemoryLogger } from '../../../fakes/memory-logger.ts';

let scene: Scene;
let candidates: Candidate[];

beforeEach(async () => {
  scene = await startScene();
  candidates = [];
});

afterEach(async () => {
  for (const candidate of candidates) await candidate.stop();
  await scene.stop();
});

const lease = { namespace: 'lamina-system', name: 'controller' };
const leaseType = { group: 'coordination.k8s.io', version: 'v1', kind: 'Lease', plural: 'leases', namespaced: true };
const leaseAddress = { type: leaseType, subresource: '', ...lease };

/** One process that wants to be elected, on a machine with a clock of its own. */
class Candidate {
  readonly clock = new ManualClock();
  readonly logger = new MemoryLogger();
  readonly client: ApiClient;
  readonly result: Promise<'ended' | 'lost'>;
  leadership: Leadership | undefined;
  /** What the work waits for after its interruption. */
  workEnd: Promise<void> = Promise.resolve();
  hasWorkEnded = false;
  readonly #abort = new AbortController();

  constructor(identity: string, work?: ElectionOptions['identity'] | (() => Promise<void>)) {
    this.client = new ApiClient({ connection: scene.server.connection, clock: this.clock, userAgent: 'lamina/test' });
    const options = { client: this.client, clock: this.clock, random: () => 0, logger: this.logger, lease, identity };
    const run = async (leadership: Leadership) => {
      this.leadership = leadership;
      if (typeof work === 'function') return work();
      if (!leadership.signal.aborted) {
        await new Promise((resolve) => leadership.signal.addEventListener('abort', resolve));
      }
      await this.workEnd;
      this.hasWorkEnded = true;
    };
    this.result = runElected(options, run, this.#abort.signal);
    // Looked at by the test, or not.
    this.result.catch(() => {});
    candidates.push(this);
  }

  get isElected(): boolean {
    return this.leadership !== undefined && !this.leadership.signal.aborted;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.result.catch(() => {});
    this.client.close();
    expect(this.clock.pending, 'timers that are left').toEqual([]);
  }

  /** Has it look at the lease once more. */
  async tick(): Promise<void> {
    await until(() => this.isIdle);
    const before = leaseRequests();
    this.clock.advance(2000);
    await until(() => leaseRequests() > before);
    await until(() => this.isIdle || this.hasWorkEnded);
  }

  /** Whether it waits for its next look, and not for an answer. */
  get isIdle(): boolean {
    return this.clock.pending.includes(2000) && !this.clock.pending.includes(30_000);
  }
}

function leaseRequests(): number {
  return scene.server.requests.filter(({ path }) => path.includes('/leases')).length;
}

function leaseSpec(): Record<string, unknown> {
  return scene.server.objects.get(leaseAddress)['spec'] as Record<string, unknown>;
}

/** Writes the lease as another process. */
function writeLease(spec: object): FakeObject {
  const lives = scene.server.objects.get(leaseAddress);
  const metadata = { ...lives.metadata, resourceVersion: undefined };
  return scene.server.objects.replace(leaseAddress, { ...lives, metadata, spec: { ...leaseSpec(), ...spec } });
}

async function elect(identity: string): Promise<Candidate> {
  const candidate = new Candidate(identity);
  await until(() => candidate.isElected);
  return candidate;
}

/** One that has seen that another holds the lease. */
async function standBy(identity: string): Promise<Candidate> {
  const candidate = new Candidate(identity);
  await until(() => candidate.logger.entries.length > 0);
  return candidate;
}

describe('an election', () => {
  it('is won by the first, with a lease that people can read', async () => {
    await elect('a');
    expect(leaseSpec()).toMatchObject({ holderIdentity: 'a', leaseDurationSeconds: 15, leaseTransitions: 0 });
    expect(leaseSpec()['renewTime']).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  });

  it('is won by one of many that come at once', async () => {
    const many = Array.from({ length: 5 }, (_, i) => new Candidate(`c${i}`));
    await until(() => many.some(({ isElected }) => isElected));
    await until(() => many.every(({ isElected, clock }) => isElected || clock.pending.includes(2000)));
    expect(many.filter(({ isElected }) => isElected)).toHaveLength(1);
  });

  it('keeps its winner as long as that renews, whatever the wall clocks of both show', async () => {
    const a = await elect('a');
    const b = await standBy('b');
    a.clock.jump(-86_400_000);
    b.clock.jump(86_400_000);
    for (let i = 0; i < 20; i++) {
      await a.tick();
      await b.tick();
    }
    expect([a.isElected, b.isElected]).toEqual([true, false]);
    expect(leaseSpec()).toMatchObject({ holderIdentity: 'a', leaseTransitions: 0 });
  });

  it('asks once for a renewal, and not more often than every two seconds', async () => {
    const a = await elect('a');
    const before = leaseRequests();
    for (let i = 0; i < 5; i++) await a.tick();
    expect(leaseRequests() - before).toBe(5);
  });

  it('is won by another when the winner has vanished, but not before the lease was still for its whole time', async () => {
    const a = await elect('a');
    const b = await standBy('b');
    expect(a.isElected).toBe(true);
    for (let seconds = 2; seconds <= 14; seconds += 2) await b.tick();
    expect(b.isElected).toBe(false);
    await b.tick();
    await until(() => b.isElected);
    expect(leaseSpec()).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 });
    // Where the first one wakes up, it finds out at once.
    a.clock.advance(2000);
    await expect(a.result).resolves.toBe('lost');
  });

  it('goes by what the holder has promised, not by what we would', async () => {
    await elect('a');
    writeLease({ leaseDurationSeconds: 60, holderIdentity: 'other' });
    const b = await standBy('b');
    for (let seconds = 2; seconds <= 58; seconds += 2) await b.tick();
    expect(b.isElected).toBe(false);
    for (let seconds = 60; seconds <= 62; seconds += 2) await b.tick();
    expect(b.isElected).toBe(true);
  });

  it('takes a lease that holds nonsense for one that is held for our time', async () => {
    await elect('a');
    writeLease({ holderIdentity: 'other', leaseDurationSeconds: null, renewTime: 'yesterday', acquireTime: null });
    const b = await standBy('b');
    for (let seconds = 2; seconds <= 16; seconds += 2) await b.tick();
    await until(() => b.isElected);
  });

  it('is won by the next one at once when the winner has stopped, after its work has ended', async () => {
    const a = await elect('a');
    const b = await standBy('b');
    const gate = Promise.withResolvers<void>();
    a.workEnd = gate.promise;
    const stopped = a.stop();
    await until(() => a.leadership?.signal.aborted ?? false);
    await b.tick();
    expect([b.isElected, a.hasWorkEnded]).toEqual([false, false]);
    gate.resolve();
    await stopped;
    await expect(a.result).resolves.toBe('ended');
    await b.tick();
    await until(() => b.isElected);
  });

  it('is given up when the work fails, and the failure is told', async () => {
    const a = new Candidate('a', async () => {
      throw new Error('no pool');
    });
    await expect(a.result).rejects.toThrow('no pool');
    expect(leaseSpec()['holderIdentity']).toBe('');
  });

  it('does not end by a wait: one that stands by stops at once', async () => {
    await elect('a');
    const b = await standBy('b');
    await b.stop();
    await expect(b.result).resolves.toBe('ended');
    expect(b.leadership).toBeUndefined();
  });
});

describe('the winner', () => {
  it('stays it when somebody else touches the lease, or removes it', async () => {
    const a = await elect('a');
    writeLease({ note: 'hello' });
    await a.tick();
    expect(leaseSpec()).toMatchObject({ note: 'hello', holderIdentity: 'a' });
    scene.server.objects.remove(leaseAddress);
    await a.tick();
    expect(a.isElected).toBe(true);
    expect(leaseSpec()['holderIdentity']).toBe('a');
  });

  it('stays it through failures that are over in time', async () => {
    const a = await elect('a');
    scene.server.inject({ fault: { kind: 'status', status: 500 } });
    scene.server.inject({ fault: { kind: 'drop-after' } });
    scene.server.inject({ fault: { kind: 'garbage', text: '<html>' } });
    for (let i = 0; i < 4; i++) await a.tick();
    await scene.server.stop();
    a.clock.advance(2000);
    await until(() => a.logger.entries.filter(({ level }) => level === 'warn').length > 0);
    await scene.server.start();
    for (let i = 0; i < 3; i++) await a.tick();
    a.clock.advance(5000);
    expect(a.isElected).toBe(true);
  });

  it('stops its work at once when another holds the lease', async () => {
    const a = await elect('a');
    writeLease({ holderIdentity: 'b' });
    a.clock.advance(2000);
    await expect(a.result).resolves.toBe('lost');
    expect(a.hasWorkEnded).toBe(true);
    expect(leaseSpec()['holderIdentity']).toBe('b');
    expect(a.logger.entries.at(-1)).toMatchObject({ level: 'error', fields: { why: "'b' holds the lease now" } });
  });

  it('stops its work ten seconds after the last renewal, while a request still hangs', async () => {
    const a = await elect('a');
    await a.tick();
    scene.server.inject({ fault: { kind: 'hang' }, times: 100 });
    a.clock.advance(9_999);
    expect(a.isElected).toBe(true);
    a.clock.advance(1);
    expect(a.isElected).toBe(false);
    expect(() => a.leadership?.assertHeld()).toThrow('not elected any more');
    await until(() => a.hasWorkEnded);
    // It tries to release the lease, for a while.
    await until(() => a.clock.pending.includes(5000));
    a.clock.advance(5000);
    await expect(a.result).resolves.toBe('lost');
  });

  it('stops its work as long before another can be elected, when only its own way to the API server is cut', async () => {
    const a = await elect('a');
    const b = await standBy('b');
    const isOfA = ({ method, body }: FakeRequest) => method === 'PUT' && !JSON.stringify(body).includes('"b"');
    scene.server.inject({ fault: { kind: 'drop' }, match: isOfA, times: 100 });
    const times: string[] = [];
    for (let seconds = 2; seconds <= 16; seconds += 2) {
      if (a.isElected) await a.tick();
      if (!a.isElected && !times.includes('a ended')) times.push('a ended', `${seconds}`);
      await b.tick();
      if (b.isElected) times.push('b elected', `${seconds}`);
    }
    expect(times).toEqual(['a ended', '10', 'b elected', '16']);
  });

  it('knows after a suspended time that it is over, before any timer has run', async () => {
    const a = await elect('a');
    a.leadership?.assertHeld();
    a.clock.suspend(11_000);
    expect(a.isElected).toBe(true);
    expect(() => a.leadership?.assertHeld()).toThrow('not elected any more');
  });
});

describe('a fenced client', () => {
  it('sends nothing once the leadership may be over, and ends what is under way with it', async () => {
    const a = await elect('a');
    if (!a.leadership) return expect.unreachable();
    const things = new ResourceClient(fencedClient(a.client, a.leadership), thingType);
    await things.create({ metadata: { namespace: 'media', name: 'x' } });
    scene.server.inject({ fault: { kind: 'hang' }, match: ({ path }) => path.includes('things') });
    const hanging = things.get({ namespace: 'media', name: 'x' }, { signal: new AbortController().signal });
    const asked = () => scene.server.requests.filter(({ path }) => path.includes('things')).length;
    await until(() => asked() === 2);
    writeLease({ holderIdentity: 'b' });
    a.clock.advance(2000);
    await expect(hanging).rejects.toMatchObject({ code: 'leadership-lost' });
    await expect(things.removeIfPresent({ namespace: 'media', name: 'x' })).rejects.toMatchObject({
      code: 'leadership-lost',
    });
    expect(asked()).toBe(2);
  });
});
