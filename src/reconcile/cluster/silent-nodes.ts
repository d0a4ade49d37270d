import { nodeLeaseName } from '../../api/names.ts';
import type { DiskPool } from '../../api/objects.ts';
import { writeStatus } from '../../kube/apply.ts';
import { ConditionReport, findCondition, timestampOf } from '../../kube/conditions.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import type { Node } from '../../kube/kinds/core-kinds.ts';
import type { EventRecorder } from '../../kube/events/events.ts';
import type { Lease } from '../../kube/election/lease.ts';
import { keyOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Clock } from '../../lib/clock.ts';
import { type ElectedCaches, indexes } from './caches.ts';

export interface SilentNodesOptions {
  pools: ResourceClient<DiskPool>;
  leases: ResourceClient<Lease>;
  nodes: ResourceClient<Node>;
  caches: Pick<ElectedCaches, 'pools' | 'nodes' | 'leases'>;
  systemNamespace: string;
  events: EventRecorder;
  clock: Clock;
}

/** The last sign of life of a node plugin. The node's clock is not compared with ours: it may show anything. */
interface Sign {
  /** What its lease said then. */
  renewTime: string;
  /** When we saw it, by our clock: to measure with, and for people. */
  atMs: number;
  at: Date;
  /** For how long nothing need follow. */
  validMs: number;
}

/** Of a lease that does not say it itself. */
const defaultValidMs = 240_000;
/** How soon a node is looked at again of which cache and API server say different things. */
const doubtMs = 5000;

/**
 * Says of the pools of a node that its plugin is silent, once that has not renewed its lease for as long as the lease
 * says. The plugin takes it back itself: it reports anew where it finds its report overwritten.
 */
export class SilentNodes {
  readonly #options: SilentNodesOptions;
  /** By the name of the node. */
  readonly #signs = new Map<string, Sign>();

  constructor(options: SilentNodesOptions) {
    this.#options = options;
  }

  /** Has a node reconciled, by its name, when its lease or one of its pools changes, or its Node. */
  watch(controller: Controller): void {
    const { leases, pools, nodes } = this.#options.caches;
    controller.watch(leases, ({ metadata, spec: { holderIdentity } }) =>
      holderIdentity && metadata.name === nodeLeaseName(holderIdentity) ? [holderIdentity] : [],
    );
    controller.watch(nodes, ({ metadata }) => [metadata.name]);
    controller.watch(pools, ({ spec }) => [spec.nodeName]);
    pools.subscribe(({ before, after }) => {
      // Nobody but the plugin says anything else of a pool: it is alive, whatever becomes of its lease.
      if (before && after && isToldSilent(before) && isToldByPlugin(after)) this.#heard(after.spec.nodeName);
    });
  }

  readonly reconcile = async (nodeName: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { caches, leases, clock } = this.#options;
    const pools = caches.pools.cache.byIndex(indexes.node, nodeName);
    const cached = caches.leases.cache.get(keyOf(this.#leaseOf(nodeName)));
    if (!cached && pools.length === 0) this.#signs.delete(nodeName);
    const sign = this.#observe(nodeName, cached);
    // Of a plugin that was never heard of nothing can be said.
    if (!sign) return 'done';
    const remainingMs = sign.atMs + sign.validMs - clock.elapsedMs();
    if (remainingMs > 0) return { againAfterMs: remainingMs };
    // The cache may lag behind; where the API server cannot be asked, nothing is concluded.
    const live = await leases.get(this.#leaseOf(nodeName), { signal });
    if (this.#observe(nodeName, live) !== sign) return { againAfterMs: doubtMs };
    if (!caches.nodes.cache.has(nodeName)) return this.#forget(nodeName, live, signal);
    for (const pool of pools) await this.#tell(pool, sign, signal);
    return 'done';
  };

  /** @returns the last sign of life, this one or an earlier one */
  #observe(nodeName: string, lease: Lease | undefined): Sign | undefined {
    const known = this.#signs.get(nodeName);
    const renewTime = lease?.spec.renewTime ?? '';
    if (!lease || known?.renewTime === renewTime) return known;
    const { clock } = this.#options;
    const validMs = (lease.spec.leaseDurationSeconds ?? 0) * 1000 || defaultValidMs;
    const sign = { renewTime, atMs: clock.elapsedMs(), at: clock.now(), validMs };
    this.#signs.set(nodeName, sign);
    return sign;
  }

  #heard(nodeName: string): void {
    const { clock } = this.#options;
    const known = this.#signs.get(nodeName);
    if (known) this.#signs.set(nodeName, { ...known, atMs: clock.elapsedMs(), at: clock.now() });
  }

  /** The objects of a node that is gone are another reconciler's; its lease says nothing any more. */
  async #forget(nodeName: string, lease: Lease | undefined, signal: AbortSignal): Promise<ReconcileResult> {
    const { nodes, leases } = this.#options;
    if (await nodes.get({ name: nodeName }, { signal })) return { againAfterMs: doubtMs };
    if (!lease) return 'done';
    const { uid, resourceVersion } = lease.metadata;
    await leases.removeIfPresent(this.#leaseOf(nodeName), { uid, resourceVersion, signal });
    return 'done';
  }

  async #tell(pool: DiskPool, { at }: Sign, signal: AbortSignal): Promise<void> {
    const { pools, events, clock } = this.#options;
    if (isToldSilent(pool)) return;
    const note = this.#noteOf(pool.spec.nodeName, at);
    const report = new ConditionReport(['Ready']);
    report.report('Ready', 'Unknown', 'NodeSilent', note);
    const conditions = report.conditions(pool.status.conditions, pool.metadata.generation, clock.now());
    await writeStatus(pools, pool, { conditions }, { signal });
    events.record(pool, { type: 'Warning', reason: 'NodeSilent', action: 'Watch', note });
  }

  #noteOf(nodeName: string, since: Date): string {
    const { systemNamespace } = this.#options;
    return (
      `Nothing was heard of the node plugin on node ${nodeName} since ${timestampOf(since)}: it does not renew its lease ${keyOf(this.#leaseOf(nodeName))}. ` +
      `Look at the node (kubectl describe node ${nodeName}) and at the plugin's pod on it (kubectl -n ${systemNamespace} get pods -o wide --field-selector spec.nodeName=${nodeName}). ` +
      'Volumes that are in use there may go on; nothing new is placed there, and nothing is made, attached or detached.'
    );
  }

  #leaseOf(nodeName: string) {
    return { namespace: this.#options.systemNamespace, name: nodeLeaseName(nodeName) };
  }
}

function isToldSilent({ status }: DiskPool): boolean {
  return findCondition(status.conditions, 'Ready')?.reason === 'NodeSilent';
}

function isToldByPlugin({ status }: DiskPool): boolean {
  const { reason } = findCondition(status.conditions, 'Ready') ?? {};
  return reason !== undefined && reason !== 'NodeSilent' && reason !== 'NodeGone';
}
