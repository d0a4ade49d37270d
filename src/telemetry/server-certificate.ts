import { hostname } from 'node:os';
import type { CertifiedKey } from '../lib/certificate.ts';
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';

export interface ServerCertificateOptions {
  /** Beside the machine's name and localhost. */
  host: string;
  clock: Clock;
  logger: Logger;
  /** Told of each new one; connections that are there keep theirs. */
  use: (certificate: CertifiedKey) => void;
}

const dayMs = 86_400_000;
const lifetimeMs = 90 * dayMs;
const renewAfterMs = 60 * dayMs;
/** Also what a Node timer can hold, which ends at 24 days. */
const lookEveryMs = dayMs;

/**
 * Makes a certificate in memory, and another one long before it expires.
 *
 * @returns a function that ends that
 */
export async function keepServerCertificate({
  host,
  clock,
  logger,
  use,
}: ServerCertificateOptions): Promise<() => void> {
  // Not before it is needed, as it takes memory.
  const { selfSignedCertificate } = await import('../lib/certificate.ts');
  const names = [...new Set([hostname(), 'localhost', ...(isWildcard(host) ? [] : [host])])];
  const renew = async () => {
    use(await selfSignedCertificate({ commonName: 'lamina', names, now: clock.now(), lifetimeMs }));
    return clock.elapsedMs() + renewAfterMs;
  };
  let dueMs = await renew();
  let cancel = clock.schedule(lookEveryMs, look);
  let isStopped = false;
  function look(): void {
    void renewIfDue().finally(() => {
      if (!isStopped) cancel = clock.schedule(lookEveryMs, look);
    });
  }
  async function renewIfDue(): Promise<void> {
    if (clock.elapsedMs() < dueMs) return;
    try {
      dueMs = await renew();
    } catch (error) {
      logger.error({ error: messageOf(error) }, 'the certificate for metrics cannot be renewed; trying again in a day');
    }
  }
  return () => {
    isStopped = true;
    cancel();
  };
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}
