import { mkdtemp } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { pollUntil } from '../../../src/lib/poll.ts';
import { Cluster } from '../../cluster/cluster.ts';
import { controlPlanePorts } from '../../cluster/control-plane.ts';
import { freePort } from '../../free-port.ts';
import type { Daemon } from '../../cluster/daemon.ts';
import { findTestbed } from '../../cluster/testbed.ts';
import { User } from '../../cluster/user.ts';
import type { Bench } from '../bench.ts';
import { measureClaims } from '../claims.ts';
import { cpuPercent, megabytes } from '../process-figures.ts';
import { medianResult, type Result } from '../results.ts';
import { declareSimulatedDisks, simulatedPool } from '../simulated-disks.ts';

/** For how long a program still compiles and collects what its last work left: 4 % of a core for some 20 s after a start. */
const restMs = 30_000;

/** The controller and the node plugin on a real control plane: at rest, under claims, and with very many objects. */
export async function measureOperator(bench: Bench): Promise<Result[]> {
  const testbed = findTestbed();
  if ('missing' in testbed) {
    bench.say(`operator: not measured: ${testbed.missing}`);
    return [];
  }
  const options = { testbed, directory: await mkdtemp('/tmp/lamina-bench-'), port: await freePort(controlPlanePorts) };
  try {
    bench.say('operator: starting a control plane, two nodes and the controller');
    const cluster = await Cluster.start(options);
    try {
      return [
        ...(await measureIdle(bench, cluster)),
        ...(await measureClaims(bench, cluster)),
        ...(await measureManyDisks(bench, cluster)),
      ];
    } finally {
      cluster.close();
    }
  } finally {
    await Cluster.destroy(options);
  }
}

/** What is taken of a core while nothing happens, with a few volumes there. */
async function measureIdle({ effort, say, signal }: Bench, cluster: Cluster): Promise<Result[]> {
  say(`operator: idle for ${effort.idleSeconds} s`);
  const user = new User(cluster.kube);
  const names = Array.from({ length: 10 }, (_, index) => `idle-${index}`);
  for (const name of names) {
    await user.claim({ name, storageClassName: 'immediate' });
    await user.bound(name);
  }
  await settled(cluster);
  await delay(restMs, undefined, { signal });
  const measured = { 'the controller': cluster.controller, 'a node plugin': cluster.workerA.plugin };
  const results = await Promise.all(
    Object.entries(measured).map(async ([name, daemon]) => [
      medianResult(`CPU of ${name}, idle`, '%', [await cpuPercent(pidOf(daemon), effort.idleSeconds)], { atMost: 1 }),
      medianResult(`memory of ${name}, 10 volumes`, 'MB', [await megabytes(pidOf(daemon), 'VmRSS')], { atMost: 130 }),
    ]),
  );
  signal.throwIfAborted();
  await user.remove('claims', ...names);
  for (const name of names) await user.gone('claims', name);
  return results.flat();
}

/** A controller that finds very many objects when it starts, all of them as they should be. */
async function measureManyDisks({ effort, say, signal }: Bench, cluster: Cluster): Promise<Result[]> {
  const { objects, idleSeconds } = effort;
  const { kube, controller } = cluster;
  for (const sidecar of cluster.sidecars) await sidecar.kill9();
  await controller.stop();
  say(`operator: declaring ${objects} disks`);
  await declareSimulatedDisks(kube, objects, signal);
  await settled(cluster);
  const before = await kube.writes();
  say(`operator: starting the controller with ${objects} disks`);
  const start = performance.now();
  await controller.start();
  // Placed last of all, if it is placed in its turn.
  const user = new User(kube);
  await user.declareDisk('unplaced', { size: '1Gi', pool: simulatedPool });
  await user.diskWith('unplaced', 'Placed');
  while ((await cpuPercent(pidOf(controller), 1)) > 10) signal.throwIfAborted();
  // Less the second without work, and half of one that may have begun with it.
  const seconds = (performance.now() - start) / 1000 - 1;
  await delay(restMs, undefined, { signal });
  const idle = await cpuPercent(pidOf(controller), idleSeconds);
  const after = [...(await kube.writes())];
  const written = after.map(([what, count]) => ({ what, count: count - (before.get(what) ?? 0) }));
  const told = written.filter(({ count }) => count > 0).map(({ what, count }) => `${count} ${what}`);
  say(`operator: written meanwhile: ${told.join('; ')}`);
  const name = `${objects} DiskImages`;
  return [
    medianResult(`${name}: controller started to steady state`, 's', [seconds], { atMost: 30 }),
    medianResult(`${name}: memory of the controller`, 'MB', [await megabytes(pidOf(controller), 'VmRSS')], {
      atMost: 160,
    }),
    medianResult(`${name}: most memory of the controller`, 'MB', [await megabytes(pidOf(controller), 'VmHWM')]),
    medianResult(`${name}: CPU of the controller, idle`, '%', [idle], { atMost: 1 }),
    // One is declared and placed meanwhile: made, given a node, and told so.
    medianResult(`${name}: needless writes`, 'writes', [Math.max(0, countOfOurs(written) - 3)], { atMost: 0 }),
  ];
}

/** Waits until nobody writes any more. */
async function settled({ kube }: Cluster): Promise<void> {
  let last = -1;
  const isSettled = async () => {
    const before = last;
    last = [...(await kube.writes()).values()].reduce((sum, count) => sum + count, 0);
    return last === before;
  };
  if (!(await pollUntil(isSettled, { timeoutMs: 900_000, intervalMs: 5000 }))) throw new Error('it does not settle');
}

/** Of what was written: a try that is refused as it is behind changes nothing. */
function countOfOurs(writes: readonly { what: string; count: number }[]): number {
  const ours = writes.filter(({ what }) => what.includes('lamina.storage') && !what.includes('refused with 409'));
  return ours.reduce((sum, { count }) => sum + count, 0);
}

function pidOf({ name, pid }: Daemon): number {
  if (pid === undefined) throw new Error(`${name} has ended`);
  return pid;
}
