import { Gauge, type Registry } from 'prom-client';

export interface LeaderMetrics {
  /** Whether this process is elected. */
  readonly setLeader: (isLeader: boolean) => void;
}

export function leaderMetrics(registry: Registry): LeaderMetrics {
  const leader = new Gauge({
    name: 'lamina_leader',
    help: '1 in the controller that is elected, 0 in those that stand by.',
    registers: [registry],
  });
  leader.set(0);
  return { setLeader: (isLeader) => leader.set(isLeader ? 1 : 0) };
}
