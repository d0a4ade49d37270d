import { Gauge, type Registry } from 'prom-client';
import { type Clock, pause } from '../lib/clock.ts';
import type { Logger } from '../lib/logger.ts';

/** Looks at what the gauges are about, once for each scrape. */
export type Read<Reading> = () => readonly Reading[] | Promise<readonly Reading[]>;

export interface ReadingGauges<Reading, Label extends string> {
  registry: Registry;
  clock: Clock;
  logger: Logger;
  labels: readonly Label[];
  /** Names the time series; two readings with the same labels are added up. */
  labelsOf: (reading: Reading) => Record<Label, string>;
  gauges: Readonly<Record<string, { help: string; valueOf: (reading: Reading) => number }>>;
}

/** Of the 10 s that Prometheus waits. */
const patienceMs = 5000;

/**
 * Gauges that are read when they are scraped. What cannot be read, or not in time, as on a disk that hangs, is left
 * out: the other metrics are needed most then.
 *
 * @returns a function that says how to read; before that there are no values
 */
export function readingGauges<Reading, Label extends string>(
  options: ReadingGauges<Reading, Label>,
): (read: Read<Reading>) => void {
  const { registry, labels, labelsOf, gauges } = options;
  const source = new Source<Reading>({ ...options, names: Object.keys(gauges) });
  for (const [name, { help, valueOf }] of Object.entries(gauges)) {
    const gauge = new Gauge<Label>({
      name,
      help,
      labelNames: labels,
      registers: [],
      async collect() {
        const readings = await source.read();
        this.reset();
        for (const reading of readings) this.inc(labelsOf(reading), valueOf(reading));
      },
    });
    registry.registerMetric(gauge);
  }
  return (read) => source.use(read);
}

interface SourceOptions {
  clock: Clock;
  logger: Logger;
  /** Of the metrics. */
  names: readonly string[];
}

class Source<Reading> {
  readonly #options: SourceOptions;
  #read: Read<Reading> = () => [];
  /** All gauges of a scrape share one; while one hangs, no further is begun. */
  #reading: Promise<readonly Reading[]> | undefined;
  #isFailing = false;

  constructor(options: SourceOptions) {
    this.#options = options;
  }

  use(read: Read<Reading>): void {
    this.#read = read;
  }

  async read(): Promise<readonly Reading[]> {
    const { clock } = this.#options;
    this.#reading ??= this.#readOnce().finally(() => {
      this.#reading = undefined;
    });
    const patience = new AbortController();
    const late = pause(clock, patienceMs, patience.signal).then((): readonly Reading[] => []);
    const readings = await Promise.race([this.#reading, late]);
    patience.abort();
    return readings;
  }

  async #readOnce(): Promise<readonly Reading[]> {
    const { logger, names } = this.#options;
    try {
      const readings = await this.#read();
      this.#isFailing = false;
      return readings;
    } catch (error) {
      if (!this.#isFailing) logger.warn({ error, names }, 'metrics cannot be read; left out');
      this.#isFailing = true;
      return [];
    }
  }
}
