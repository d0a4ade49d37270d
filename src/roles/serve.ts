import { type CsiServer, type CsiServerOptions, startCsiServer } from '../csi/server.ts';
import type { TokenReview } from '../kube/client/token-review.ts';
import { type HealthOptions, startHealthServer } from '../telemetry/health.ts';

export interface ServeOptions extends Pick<HealthOptions, 'ready' | 'clock' | 'logger'> {
  /** Of CSI: `unix:///path` or an absolute path. */
  socket: string;
  version: string;
  /** What of CSI is served beside Identity. */
  services: Pick<CsiServerOptions, 'controller' | 'node'>;
  metrics: { registry: HealthOptions['metrics']; observeCall: CsiServerOptions['onCall'] };
  /** Where health and metrics are served; null for nowhere. */
  listen: string | null;
  /** Who reads metrics has to show that RBAC lets them; without, there is nobody to ask. */
  reviews?: TokenReview;
}

export interface Served {
  csi: CsiServer;
  /** To be called last: who ends is watched until then. */
  stopHealth: () => Promise<void>;
}

/** What every role that serves CSI shows of itself: CSI, health and metrics. @throws LaminaError as startCsiServer and startHealthServer */
export async function serve(options: ServeOptions): Promise<Served> {
  const { socket, version, services, metrics, listen, ready, reviews, clock, logger } = options;
  const identity = { version, ready };
  const csi = await startCsiServer({ endpoint: socket, identity, ...services, logger, onCall: metrics.observeCall });
  if (listen === null) return { csi, stopHealth: async () => {} };
  const authorize = reviews && ((token: string) => reviews.authorize(token, { path: '/metrics' }));
  const health = await startHealthServer({ listen, ready, metrics: metrics.registry, authorize, clock, logger });
  return { csi, stopHealth: () => health.stop() };
}
