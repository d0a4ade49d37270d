import { z } from 'zod';
import type { Clock } from '../../lib/clock.ts';
import { isAlreadyExists, isConflict, isObjectMissing } from '../client/api-error.ts';
import type { KubeClient } from '../client/client.ts';
import type { KubeObject, ObjectMeta, ObjectRef } from '../objects.ts';
import { ResourceClient } from '../client/resource-client.ts';
import type { ResourceType } from '../client/resource-type.ts';

const specSchema = z.looseObject({
  holderIdentity: z.string().nullish(),
  leaseDurationSeconds: z.int().nullish(),
  acquireTime: z.string().nullish(),
  renewTime: z.string().nullish(),
  leaseTransitions: z.int().nullish(),
});
const metadataSchema = z.looseObject({ name: z.string(), namespace: z.string(), resourceVersion: z.string() });
const leaseSchema = z.object({ metadata: metadataSchema, spec: specSchema.prefault({}) });

export interface Lease extends KubeObject {
  spec: z.infer<typeof specSchema>;
}

export const leaseType: ResourceType<Lease> = {
  group: 'coordination.k8s.io',
  version: 'v1',
  kind: 'Lease',
  plural: 'leases',
  namespaced: true,
  parse: (json) => leaseSchema.parse(json),
};

export interface LeaseOptions {
  client: KubeClient;
  clock: Clock;
  /** Where it is, and what it is labelled with where it has to be made. */
  lease: ObjectRef & Pick<ObjectMeta, 'labels'>;
  /** Of this process alone: a host's name is not enough. */
  identity: string;
  /** For how long others leave the lease alone after it was renewed. */
  durationMs: number;
}

/**
 * One candidate's view of a Lease. Like client-go's, it never compares the time stamps in the lease with the clock of
 * this machine: it measures for how long the lease has not changed before its eyes.
 */
export class LeaseCandidate {
  readonly #options: LeaseOptions;
  readonly #leases: ResourceClient<Lease>;
  #seen: { lease: Lease; atMs: number } | undefined;

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#leases = new ResourceClient(options.client, leaseType);
  }

  /** Who held the lease when it was looked at last; empty for nobody. */
  get holder(): string {
    return this.#seen?.lease.spec.holderIdentity ?? '';
  }

  /**
   * Takes the lease if it is free, and renews it if it is ours.
   *
   * @returns whether we hold it now
   * @throws as KubeClient's `request`, where that cannot be told
   */
  async acquireOrRenew(signal: AbortSignal): Promise<boolean> {
    // While it is ours nobody else writes it, so that there is no need to look first.
    if (this.#seen && this.holder === this.#options.identity && (await this.#write(this.#seen.lease, signal)))
      return true;
    const lease = await this.#leases.get(this.#options.lease, { signal });
    this.#observe(lease);
    return this.#isFree(lease) && this.#write(lease, signal);
  }

  /** Lets others have the lease at once, if it is ours. Only when the work that it protects has ended. */
  async release(signal: AbortSignal): Promise<void> {
    const lease = await this.#leases.get(this.#options.lease, { signal });
    if (lease?.spec.holderIdentity !== this.#options.identity) return;
    const spec = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: this.#microTime() };
    const wanted = { metadata: lease.metadata, spec };
    await this.#leases.replace(wanted, { signal });
  }

  /** @returns false where somebody else was faster, or has touched the lease for another reason */
  async #write(lease: Lease | undefined, signal: AbortSignal): Promise<boolean> {
    const metadata = lease?.metadata ?? this.#options.lease;
    const wanted = { metadata, spec: this.#renewed(lease?.spec) };
    try {
      this.#observe(await (lease ? this.#leases.replace(wanted, { signal }) : this.#leases.create(wanted, { signal })));
      return true;
    } catch (error) {
      if (isConflict(error) || isAlreadyExists(error) || isObjectMissing(error, metadata.name)) return false;
      throw error;
    }
  }

  #renewed(spec: Lease['spec'] | undefined): Lease['spec'] {
    const { identity, durationMs } = this.#options;
    const now = this.#microTime();
    const isOurs = spec?.holderIdentity === identity;
    return {
      ...spec,
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(durationMs / 1000),
      acquireTime: (isOurs && spec.acquireTime) || now,
      renewTime: now,
      leaseTransitions: (spec?.leaseTransitions ?? 0) + (spec && !isOurs ? 1 : 0),
    };
  }

  #observe(lease: Lease | undefined): void {
    const isSame = lease?.metadata.resourceVersion === this.#seen?.lease.metadata.resourceVersion;
    if (lease && isSame) return;
    this.#seen = lease && { lease, atMs: this.#options.clock.elapsedMs() };
  }

  #isFree(lease: Lease | undefined): boolean {
    if (!lease || !this.#seen || this.holder === '' || this.holder === this.#options.identity) return true;
    const durationMs = (lease.spec.leaseDurationSeconds ?? 0) * 1000 || this.#options.durationMs;
    return this.#options.clock.elapsedMs() - this.#seen.atMs > durationMs;
  }

  /** As the API wants it: with microseconds. */
  #microTime(): string {
    return this.#options.clock.now().toISOString().replace('Z', '000Z');
  }
}
