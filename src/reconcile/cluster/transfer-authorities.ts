import { z } from 'zod';
import type { Secret } from '../../kube/kinds/core-kinds.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { CertifiedKey } from '../../lib/certificate.ts';
import type { Clock } from '../../lib/clock.ts';
import { LaminaError, messageOf } from '../../lib/errors.ts';
import { rotateAuthorities } from '../../transfer/identity/certificates.ts';

/** Long, as every rotation has nodes trust one more. */
const lifetimeMs = 365 * 24 * 3_600_000;
const dataKey = 'authorities.json';
export const authoritySecretName = 'lamina-transfer-authority';

const schema = z.array(z.strictObject({ certificate: z.string(), key: z.string() })).min(1);

export interface TransferAuthoritiesOptions {
  secrets: ResourceClient<Secret>;
  namespace: string;
  clock: Clock;
}

/** What signs the certificates of nodes, in a Secret that only the controller reads. */
export class TransferAuthorities {
  readonly #options: TransferAuthoritiesOptions;

  constructor(options: TransferAuthoritiesOptions) {
    this.#options = options;
  }

  /**
   * The authorities that are valid, oldest first; made, and made anew in time, where that is due.
   *
   * @throws LaminaError `resource-invalid` where the Secret holds something else: it is not replaced, as nodes trust what was in it
   */
  async current(signal: AbortSignal): Promise<CertifiedKey[]> {
    const { secrets, namespace, clock } = this.#options;
    const ref = { namespace, name: authoritySecretName };
    const secret = await secrets.get(ref, { signal });
    const known = secret ? authoritiesIn(secret) : [];
    const wanted = await rotateAuthorities(known, { now: clock.now(), lifetimeMs });
    if (wanted.length === known.length && wanted.at(-1) === known.at(-1)) return known;
    const data = { [dataKey]: Buffer.from(JSON.stringify(wanted)).toString('base64') };
    // Whoever comes second gets a conflict, and reads what the first one has written.
    const manifest = { metadata: { ...ref, resourceVersion: secret?.metadata.resourceVersion }, data };
    await (secret ? secrets.replace(manifest, { signal }) : secrets.create(manifest, { signal }));
    return wanted;
  }
}

function authoritiesIn({ metadata, data }: Secret): CertifiedKey[] {
  try {
    return schema.parse(JSON.parse(data[dataKey] ?? 'null'));
  } catch (error) {
    throw new LaminaError(
      'resource-invalid',
      `the Secret ${metadata.name} does not hold authorities (${messageOf(error).replaceAll(/\s+/g, ' ')}): restore it, or delete it to have nodes trust a new one`,
    );
  }
}
