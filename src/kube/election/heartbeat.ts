import { Backoff } from '../../lib/backoff.ts';
import { type Clock, pause } from '../../lib/clock.ts';
import { withDeadline } from '../../lib/deadline.ts';
import type { Logger } from '../../lib/logger.ts';
import { LeaseCandidate, type LeaseOptions } from './lease.ts';

export interface HeartbeatOptions extends Pick<LeaseOptions, 'client' | 'clock' | 'lease' | 'identity'> {
  clock: Clock;
  random: () => number;
  logger: Logger;
  /** How often the lease is renewed. */
  everyMs: number;
}

/** As many renewals may fail before others conclude anything. */
const missedBeats = 4;
const firstRetryMs = 5000;
const timeoutMs = 15_000;

/**
 * Renews a Lease until `signal`, so that others see that this process is alive: its leaseDurationSeconds says after
 * which time without a renewal they may doubt that. Never throws for what the API server does.
 */
export async function keepRenewed(options: HeartbeatOptions, signal: AbortSignal): Promise<void> {
  const { clock, random, everyMs } = options;
  const heartbeat = new Heartbeat(options);
  const backoff = new Backoff({ baseMs: Math.min(firstRetryMs, everyMs), maxMs: everyMs, jitter: 0.2, random });
  while (!signal.aborted) {
    const isRenewed = await heartbeat.renew(signal);
    if (isRenewed) backoff.reset();
    // Those of all nodes are not to come at once.
    await pause(clock, isRenewed ? everyMs * (1 - 0.1 * random()) : backoff.next(), signal);
  }
}

class Heartbeat {
  readonly #options: HeartbeatOptions;
  readonly #candidate: LeaseCandidate;
  #isFailing = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#candidate = new LeaseCandidate({ ...options, durationMs: missedBeats * options.everyMs });
  }

  async renew(signal: AbortSignal): Promise<boolean> {
    const { clock, logger, lease } = this.#options;
    const deadline = { clock, timeoutMs, what: `renewing the lease ${lease.name}`, signal };
    try {
      const isRenewed = await withDeadline(deadline, (limited) => this.#candidate.acquireOrRenew(limited));
      if (!isRenewed) this.#complain({ holder: this.#candidate.holder }, 'somebody else has written the lease');
      else if (this.#isFailing) logger.info({ lease: lease.name }, 'the lease is renewed again');
      this.#isFailing = !isRenewed;
      return isRenewed;
    } catch (error) {
      if (!signal.aborted) this.#complain({ error }, 'the lease cannot be renewed; trying again');
      return false;
    }
  }

  #complain(fields: object, words: string): void {
    const { logger, lease } = this.#options;
    if (!this.#isFailing) logger.warn({ lease: lease.name, ...fields }, words);
    this.#isFailing = true;
  }
}
