import { type Clock, pause } from '../../lib/clock.ts';
import { withDeadline } from '../../lib/deadline.ts';
import type { Logger } from '../../lib/logger.ts';
import type { KubeClient } from '../client/client.ts';
import { LeaseCandidate } from './lease.ts';
import { durationMs, type Leadership, renewDeadlineMs, Term } from './leadership.ts';
import type { ObjectRef } from '../objects.ts';

export interface ElectionOptions {
  client: KubeClient;
  clock: Clock;
  random: () => number;
  logger: Logger;
  lease: ObjectRef;
  /** Of this process alone: a host's name is not enough. */
  identity: string;
}

const retryMs = 2000;
const releaseTimeoutMs = 5000;

/**
 * Waits until this process is elected, then runs `work` until `signal` aborts, `work` ends, or the lease cannot be
 * renewed in time: then the work's signal aborts at once. The lease is released when the work has ended, so that the
 * next one can begin.
 *
 * @returns whether the leadership was `lost`; the caller should end the process then, as client-go's users do
 * @throws what `work` throws
 */
export async function runElected(
  options: ElectionOptions,
  work: (leadership: Leadership) => Promise<void>,
  signal: AbortSignal,
): Promise<'ended' | 'lost'> {
  const election = new Election(options);
  const term = await election.win(signal);
  if (!term) return 'ended';
  const renewing = election.defend(term);
  try {
    await work(term);
  } catch (error) {
    // The work may fail in all kinds of ways when it is interrupted.
    if (!term.signal.aborted) throw error;
  } finally {
    term.end();
    await renewing;
    await election.resign();
  }
  return term.isLost ? 'lost' : 'ended';
}

class Election {
  readonly #options: ElectionOptions;
  readonly #candidate: LeaseCandidate;
  #isFailing = false;

  constructor(options: ElectionOptions) {
    this.#options = options;
    this.#candidate = new LeaseCandidate({ ...options, durationMs });
  }

  /** @returns undefined where `signal` aborts before */
  async win(signal: AbortSignal): Promise<Term | undefined> {
    const { clock, random, logger, identity } = this.#options;
    let holder = '';
    while (!signal.aborted) {
      const startMs = clock.elapsedMs();
      if (await this.#try(signal)) {
        logger.info({ identity }, 'elected');
        return new Term(this.#options, startMs, signal);
      }
      if (this.#candidate.holder !== holder) {
        holder = this.#candidate.holder;
        logger.info({ holder }, 'another is elected; standing by');
      }
      await pause(clock, retryMs * (1 + random()), signal);
    }
    return undefined;
  }

  /** Renews the lease until the term ends. */
  async defend(term: Term): Promise<void> {
    const { clock, identity } = this.#options;
    for (;;) {
      await pause(clock, retryMs, term.signal);
      if (term.signal.aborted) return;
      const startMs = clock.elapsedMs();
      if (await this.#try(term.signal)) term.renew(startMs);
      else if (this.#candidate.holder !== identity) term.lose(`'${this.#candidate.holder}' holds the lease now`);
    }
  }

  /** Releases the lease; where that fails, others wait until it has expired. */
  async resign(): Promise<void> {
    const { clock, logger } = this.#options;
    try {
      const deadline = { clock, timeoutMs: releaseTimeoutMs, what: 'releasing the lease' };
      await withDeadline(deadline, (signal) => this.#candidate.release(signal));
    } catch (error) {
      logger.warn({ error }, 'the lease could not be released; it will expire');
    }
  }

  async #try(signal: AbortSignal): Promise<boolean> {
    const { clock, logger } = this.#options;
    const deadline = { clock, timeoutMs: renewDeadlineMs / 2, what: 'the lease', signal };
    try {
      const isHeld = await withDeadline(deadline, (limited) => this.#candidate.acquireOrRenew(limited));
      this.#isFailing = false;
      return isHeld;
    } catch (error) {
      if (!signal.aborted && !this.#isFailing) logger.warn({ error }, 'the lease cannot be read or renewed');
      this.#isFailing = true;
      return false;
    }
  }
}
