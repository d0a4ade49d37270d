import { mkdir, writeFile } from 'node:fs/promises';
import { cpus, loadavg, totalmem } from 'node:os';
import path from 'node:path';
import { formatBytes, GiB } from '../../src/lib/bytes.ts';
import { messageOf } from '../../src/lib/errors.ts';
import { operatingSystem } from '../demo/stage.ts';
import { makeWorkspace, removeWorkspace, type Workspace } from '../workspace.ts';
import { type Bench, measureInTurn } from './bench.ts';
import { type BenchOptions, type PartName, readOptions } from './options.ts';
import { measureChain } from './parts/chain.ts';
import { measureFio } from './parts/fio.ts';
import { measureBesideHostPath } from './parts/host-path.ts';
import { measureImport } from './parts/import.ts';
import { measureKind } from './parts/kind.ts';
import { measureLatency } from './parts/latency.ts';
import { measureMemory } from './parts/memory.ts';
import { measureOperator } from './parts/operator.ts';
import { measureSnapshots } from './parts/snapshot.ts';
import { measureTransfer } from './parts/transfer.ts';
import { choosePlace, type Place } from './place.ts';
import { formatTable, formatVerdict, type Result } from './results.ts';

const output = path.resolve(import.meta.dirname, '../../build/bench.json');

const parts: Record<PartName, (bench: Bench) => Promise<Result[]>> = {
  fio: measureFio,
  chain: measureChain,
  latency: async (bench) => [
    ...(await measureLatency(bench)),
    ...(bench.hostPathPlugin === null ? [] : await measureBesideHostPath(bench, bench.hostPathPlugin)),
  ],
  snapshot: measureSnapshots,
  memory: measureMemory,
  transfer: measureTransfer,
  import: measureImport,
  operator: measureOperator,
  kind: measureKind,
};

/** `make bench`. Exits with 0 when everything was measured, whether or not it meets its target: the table says so. */
async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2), process.env);
  if (process.getuid?.() !== 0) throw new Error('mounting needs root: run it with sudo');
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => interrupted.abort(new Error(`ended by ${signal}`)));
  }
  const context = { say: (text: string) => process.stderr.write(`bench: ${text}\n`), signal: interrupted.signal };
  const place = await choosePlace(options, context);
  try {
    await measure(options, place, context);
  } finally {
    await place.close();
  }
}

interface Context {
  say: (text: string) => void;
  signal: AbortSignal;
}

async function measure(options: BenchOptions, place: Place, context: Context): Promise<void> {
  const { effort, directory } = options;
  const neededBytes = effort.dataBytes + 10 * effort.fioBytes + 2 * GiB;
  const workspace = await makeWorkspace({ base: await place.open(directory), prefix: 'bench-', neededBytes });
  try {
    const before = describeLoad();
    const head = await describe(options, place, workspace);
    for (const line of [...head, before]) context.say(line);
    const results = await measureParts(options, { place, workspace }, context);
    head.push(`${before}; after all this ${describeLoad()}`);
    process.stdout.write(`\n${head.join('\n')}\n\n${formatTable(results)}\n\n${formatVerdict(results)}\n`);
    await mkdir(path.dirname(output), { recursive: true });
    await writeFile(output, `${JSON.stringify(results, null, 2)}\n`);
  } finally {
    await removeWorkspace(workspace.directory);
  }
}

async function measureParts(
  { parts: names, effort, hostPathPlugin, hostPathImage }: BenchOptions,
  { place, workspace }: { place: Place; workspace: Workspace },
  { say, signal }: Context,
): Promise<Result[]> {
  const metricsSocket = path.join(workspace.directory, 'metrics.sock');
  signal.throwIfAborted();
  const driver = await place.start(workspace, metricsSocket);
  // Without its driver the part that is running fails, and what is left is taken away.
  signal.addEventListener('abort', () => void driver.kill9());
  const bench: Bench = {
    csi: driver.client,
    workspace,
    effort,
    metricsSocket,
    hostPathPlugin,
    hostPathImage,
    say,
    signal,
  };
  const measures = names.map((name) => () => {
    signal.throwIfAborted();
    return parts[name](bench);
  });
  const results = await measureInTurn(measures, say);
  await driver.stop();
  return results;
}

/** Other work on the machine is part of every figure. */
function describeLoad(): string {
  return `load average ${loadavg()
    .map((load) => load.toFixed(1))
    .join(', ')}`;
}

async function describe(
  { quick, effort }: BenchOptions,
  { description }: Place,
  { filesystem, directory }: Workspace,
): Promise<string[]> {
  const processors = cpus();
  return [
    `${processors.length} x ${processors[0]?.model.trim()}, ${formatBytes(Math.round(totalmem() / GiB) * GiB)}, ${await operatingSystem()}`,
    `${description}; pool on ${filesystem}, ${directory}`,
    quick
      ? `BENCH_QUICK: ${effort.rounds} short rounds; this shows that it works, not how fast it is`
      : `medians of ${effort.rounds} interleaved rounds of fio of ${effort.fioSeconds} s each and of ${effort.calls} calls`,
  ];
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${messageOf(error)}\n`);
  process.exitCode = 1;
}
