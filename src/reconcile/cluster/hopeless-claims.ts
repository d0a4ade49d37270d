import { driverName } from '../../api/names.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import type { PersistentVolumeClaim } from '../../kube/kinds/core-kinds.ts';
import type { EventRecorder } from '../../kube/events/events.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { ClaimWish, StorageClass } from '../../kube/kinds/storage-kinds.ts';
import { isLaminaError } from '../../lib/errors.ts';
import { parseQuantity } from '../../lib/quantity.ts';
import type { ElectedCaches } from './caches.ts';
import { chooseNode } from './placement.ts';
import type { PoolRooms } from './pool-rooms.ts';

export interface HopelessClaimsOptions {
  wishes: ResourceClient<ClaimWish>;
  storageClasses: ResourceClient<StorageClass>;
  caches: Pick<ElectedCaches, 'claims' | 'pools' | 'nodes' | 'images'>;
  rooms: PoolRooms;
  /** What a class asks of pools. @throws LaminaError `invalid-parameter`, as CreateVolume does */
  readClass: (storageClass: StorageClass) => { pool: string; isThick: boolean };
  events: EventRecorder;
}

/** As long as it is so, it is said again, as everybody does for whom a claim waits. */
const againMs = 60_000;

/**
 * Says of claims that wait for their first pod why they would wait in vain: the scheduler knows only that no node has
 * room for such a volume, and so nobody is ever asked for it who could say that a parameter is misspelt.
 */
export class HopelessClaims {
  readonly #options: HopelessClaimsOptions;

  constructor(options: HopelessClaimsOptions) {
    this.#options = options;
  }

  watch(controller: Controller): void {
    const { claims, pools, nodes, images } = this.#options.caches;
    controller.watch(claims, (claim) => (isUnasked(claim) ? [keyOf(claim.metadata)] : []));
    // Looked into, though no change of theirs has to be acted on.
    controller.watch(pools, () => []);
    controller.watch(nodes, () => []);
    controller.watch(images, () => []);
  }

  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { caches, wishes, storageClasses, events } = this.#options;
    const claim = caches.claims.cache.get(key);
    if (!claim || !isUnasked(claim)) return 'done';
    const wish = await wishes.get(claim.metadata, { signal });
    if (wish?.storageClassName === undefined) return 'done';
    const storageClass = await storageClasses.get({ name: wish.storageClassName }, { signal });
    // Where nobody waits for a pod, csi-provisioner asks, and tells what it is answered.
    if (storageClass?.provisioner !== driverName || !storageClass.isLate) return 'done';
    const note = this.#problemOf(wish, storageClass);
    if (note === undefined) return 'done';
    const subject = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: claim.metadata };
    events.record(subject, { type: 'Warning', reason: 'ProvisioningFailed', action: 'Provision', note });
    return { againAfterMs: againMs };
  };

  #problemOf({ requests = '' }: ClaimWish, storageClass: StorageClass): string | undefined {
    const { rooms, readClass } = this.#options;
    const { name } = storageClass.metadata;
    try {
      const { pool, isThick } = readClass(storageClass);
      const names = rooms.poolNames();
      if (!names.includes(pool)) {
        const others = names.length > 0 ? `there are ${names.join(', ')}` : 'there are none yet';
        return `StorageClass ${name}: no node has a pool '${pool}'; ${others}.`;
      }
      const sizeBytes = parseQuantity(requests) ?? Number.POSITIVE_INFINITY;
      const choice = chooseNode(rooms.candidates(pool), { sizeBytes, isThick, allowed: null, preferred: [] });
      if ('nodeName' in choice) return undefined;
      return `No node can have a volume of ${requests} in its pool '${pool}': ${choice.message}.`;
    } catch (error) {
      if (!isLaminaError(error, 'invalid-parameter')) throw error;
      return `StorageClass ${name}: ${error.message}.`;
    }
  }
}

/** Whether no volume was asked for yet: the scheduler has chosen no node. */
function isUnasked(claim: PersistentVolumeClaim): boolean {
  return claim.volumeName === undefined && claim.selectedNode === undefined && !isBeingDeleted(claim);
}
