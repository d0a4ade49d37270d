import { nodeLeaseLabels, nodeLeaseName } from '../../api/names.ts';
import { keepRenewed } from '../../kube/election/heartbeat.ts';
import { untilInstalledSchema } from '../../kube/installed-schema.ts';
import { withDeadline } from '../../lib/deadline.ts';
import type { PoolReading } from '../../telemetry/pool-metrics.ts';
import { NodeAssembly } from './node-assembly.ts';
import type { NodeParts } from './node-parts.ts';
import { readNodePools } from '../pool-reading.ts';
import type { PoolsNodeService } from './pools-node-service.ts';

/** How long the last words to the API server may take. */
const farewellMs = 3000;

/** What a node does from its start until it is told to stop, and in which order it ends. */
export class NodePlugin {
  /** For kubelet. Needs no API server. */
  readonly service: PoolsNodeService;
  readonly #parts: NodeParts;
  readonly #assembly: NodeAssembly;
  #isUnderstood = true;

  constructor(parts: NodeParts) {
    this.#parts = parts;
    this.#assembly = new NodeAssembly(parts);
    this.service = this.#assembly.service;
  }

  /** Whether every pool is served, or has said why it is not, and the cluster's definitions are not wrong ones. */
  get isReady(): boolean {
    const { pools } = this.#assembly;
    return this.#isUnderstood && pools.places.every(({ name }) => pools.state(name)?.kind !== 'starting');
  }

  /** For metrics. */
  readPools(): Promise<PoolReading[]> {
    return readNodePools(this.#assembly.pools, this.#assembly.watches.pools.cache, this.#parts.options.nodeName);
  }

  /**
   * Works until `stop`.
   *
   * @param beforeEnd ends what uses the pools, before they are given up
   */
  async run(stop: AbortSignal, beforeEnd: () => Promise<void>): Promise<void> {
    const ended = new AbortController();
    const { pools, watches, controllers, sweeper, imports, uploads, fetches, events } = this.#assembly;
    const watching = [watches.images, watches.snapshots, watches.pools].map((reflector) => reflector.run(stop));
    const serving = pools.run(ended.signal);
    const exchanging = this.#exchange(stop);
    const renewing = this.#keepHeard(stop);
    await this.#untilUnderstood(stop);
    await Promise.all([controllers.run(stop), sweeper.run(stop)]);
    await Promise.all([imports.stop(), fetches.stop(), exchanging]);
    await uploads.stop();
    await beforeEnd();
    await this.#sayGoodbye();
    ended.abort();
    await Promise.all([serving, renewing, ...watching, events.stop()]);
  }

  /** Gives nodes and people what they may have, as soon as they can know this node by its certificate. */
  async #exchange(stop: AbortSignal): Promise<void> {
    const { credentials, transfers, exports } = this.#assembly;
    if (!transfers.isEnabled && !exports.isEnabled) return;
    try {
      await credentials.run(stop);
    } finally {
      await Promise.all([transfers.close(), exports.close()]);
    }
  }

  /** Shows the controller that this plugin is alive, whatever else it can do. */
  #keepHeard(stop: AbortSignal): Promise<void> {
    const { options, cluster, clock, random, logger } = this.#parts;
    const { nodeName: identity, heartbeatSeconds } = options;
    const lease = { namespace: cluster.systemNamespace, name: nodeLeaseName(identity), labels: nodeLeaseLabels };
    const everyMs = heartbeatSeconds * 1000;
    return keepRenewed({ client: cluster.client, lease, identity, everyMs, clock, random, logger }, stop);
  }

  /** What the definitions do not know would be dropped silently. kubelet is served meanwhile: what is in use must go on. */
  async #untilUnderstood(stop: AbortSignal): Promise<void> {
    const { cluster, clock, random, logger } = this.#parts;
    const onWrong = (error: Error) => {
      this.#isUnderstood = false;
      logger.error({ error: error.message }, 'objects are left alone until their definitions are the right ones');
    };
    try {
      await untilInstalledSchema({ client: cluster.client, clock, random, logger }, stop, onWrong);
      this.#isUnderstood = true;
    } catch (error) {
      if (!stop.aborted) throw error;
    }
  }

  async #sayGoodbye(): Promise<void> {
    const { pools, reports } = this.#assembly;
    const { clock, logger } = this.#parts;
    const deadline = { clock, timeoutMs: farewellMs, what: 'telling that the node plugin stops' };
    try {
      await withDeadline(deadline, async (signal) => {
        for (const { name } of pools.places) await reports.reportStopped(name, signal);
      });
    } catch (error) {
      logger.warn({ error }, 'the DiskPools do not say that the node plugin has stopped');
    }
  }
}
