import { Counter, Histogram } from 'prom-client';
import { type Read, type ReadingGauges, readingGauges } from './readings.ts';

const daemonStates = ['running', 'dead', 'unresponsive'] as const;

/** A storage daemon, as the supervisor reports it. */
export interface DaemonReading {
  state: (typeof daemonStates)[number];
}

interface DaemonCount extends DaemonReading {
  count: number;
}

export interface EngineMetrics {
  /** One file system was frozen for that long, for a snapshot. */
  readonly observeFreeze: (durationMs: number) => void;
  /** A storage daemon ended that nobody had stopped. */
  readonly countEngineDeath: () => void;
  readonly readDaemons: (read: Read<DaemonReading>) => void;
}

export function engineMetrics(
  options: Pick<ReadingGauges<DaemonReading, 'state'>, 'registry' | 'clock' | 'logger'>,
): EngineMetrics {
  const registers = [options.registry];
  const freezes = new Histogram({
    name: 'lamina_freeze_duration_seconds',
    help: 'How long file systems stood still for snapshots of volumes in use.',
    buckets: [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5],
    registers,
  });
  const deaths = new Counter({
    name: 'lamina_engine_deaths_total',
    help: 'Storage daemons of attached volumes that ended without being stopped.',
    registers,
  });
  const readStates = readingGauges<DaemonCount, 'state'>({
    ...options,
    labels: ['state'],
    labelsOf: ({ state }) => ({ state }),
    gauges: {
      lamina_engine_daemons: {
        help: 'Storage daemons of attached volumes, by state: running, dead or unresponsive. Left out where the engine does not answer.',
        valueOf: ({ count }) => count,
      },
    },
  });
  return {
    observeFreeze: (durationMs) => freezes.observe(durationMs / 1000),
    countEngineDeath: () => deaths.inc(),
    readDaemons: (read) => readStates(async () => countStates(await read())),
  };
}

function countStates(daemons: readonly DaemonReading[]): DaemonCount[] {
  return daemonStates.map((state) => ({ state, count: daemons.filter((daemon) => daemon.state === state).length }));
}
