import { z } from 'zod';
import { GiB, MiB, parseBytes } from '../../src/lib/bytes.ts';

export const partNames = [
  'fio',
  'chain',
  'latency',
  'snapshot',
  'memory',
  'transfer',
  'import',
  'operator',
  'kind',
] as const;
export type PartName = (typeof partNames)[number];

/** How much is measured; the quick form shows whether it works, not what is true. */
export interface Effort {
  /** Measured time of one fio run. */
  fioSeconds: number;
  fioBytes: number;
  /** Interleaved rounds of fio: many short ones, so that what else the machine does slows all variants alike. */
  rounds: number;
  /** Calls of each kind. */
  calls: number;
  liveSnapshots: number;
  /** Data in the 1 TiB volume that is cloned and restored. */
  dataBytes: number;
  /** DiskImages of a big cluster. */
  objects: number;
  /** For how long it is watched that nothing happens. */
  idleSeconds: number;
}

export interface BenchOptions {
  parts: readonly PartName[];
  quick: boolean;
  effort: Effort;
  /** Measure on the machine itself, even where docker is at hand. */
  native: boolean;
  /** The image to measure; null: built from the checkout. */
  image: string | null;
  /** A csi-driver-host-path binary to measure beside. */
  hostPathPlugin: string | null;
  /** An image of csi-driver-host-path to measure beside, on a cluster. */
  hostPathImage: string | null;
  /** Where the pool is made. */
  directory: string;
}

const full: Effort = {
  fioSeconds: 2,
  fioBytes: GiB,
  rounds: 12,
  calls: 40,
  liveSnapshots: 100,
  dataBytes: 10 * GiB,
  objects: 10_000,
  idleSeconds: 30,
};
const quick: Effort = {
  fioSeconds: 2,
  fioBytes: 512 * MiB,
  rounds: 3,
  calls: 12,
  liveSnapshots: 20,
  dataBytes: GiB,
  objects: 1000,
  idleSeconds: 5,
};

const bytes = z.string().transform((text, context) => {
  const value = parseBytes(text);
  if (value !== undefined && value >= MiB) return value;
  context.addIssue({ code: 'custom', message: 'a size such as 10Gi is wanted' });
  return z.NEVER;
});

const flag = z
  .enum(['', '0', '1'])
  .default('')
  .transform((text) => text === '1');
/** `make` passes a variable that is not set as an empty one. */
const text = z
  .string()
  .default('')
  .transform((value) => (value === '' ? null : value));

const settings = z.object({
  ONLY: z
    .string()
    .default('')
    .transform((names) => names.split(',').filter((name) => name !== ''))
    .pipe(z.array(z.enum(partNames))),
  BENCH_QUICK: flag,
  BENCH_NATIVE: flag,
  BENCH_DATA: bytes.optional(),
  BENCH_DIR: text,
  BENCH_IMAGE: text,
  HOSTPATH_PLUGIN: text,
  HOSTPATH_IMAGE: text,
});

/**
 * @param args `NAME=value`, as make takes them; they go before the environment
 * @throws Error that names every setting that is wrong
 */
export function readOptions(args: readonly string[], environment: NodeJS.ProcessEnv): BenchOptions {
  const given = args.map((argument) => argument.split(/=(.*)/s).slice(0, 2) as [string, string]);
  const unknown = given.filter(([name]) => !Object.hasOwn(settings.shape, name)).map(([name]) => name);
  if (unknown.length > 0)
    throw new Error(`unknown: ${unknown.join(', ')}; known are ${Object.keys(settings.shape).join(', ')}`);
  const parsed = settings.safeParse({ ...environment, ...Object.fromEntries(given) });
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  const { ONLY, BENCH_QUICK, BENCH_NATIVE, BENCH_DATA, BENCH_DIR, BENCH_IMAGE, HOSTPATH_PLUGIN, HOSTPATH_IMAGE } =
    parsed.data;
  const effort = BENCH_QUICK ? quick : full;
  return {
    parts: ONLY.length > 0 ? ONLY : partNames,
    quick: BENCH_QUICK,
    effort: { ...effort, dataBytes: BENCH_DATA ?? effort.dataBytes },
    native: BENCH_NATIVE,
    image: BENCH_IMAGE,
    hostPathPlugin: HOSTPATH_PLUGIN,
    hostPathImage: HOSTPATH_IMAGE,
    directory: BENCH_DIR ?? '/var/tmp',
  };
}
