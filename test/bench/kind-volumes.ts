import type { Kubectl } from '../e2e/kubectl.ts';
import { claim, pod, snapshot } from '../e2e/objects.ts';
import { type Bench, interleave, timed, uniqueName } from './bench.ts';
import { medianResult, type Result } from './results.ts';
import { percentile } from './statistics.ts';

/** A CSI driver in the cluster, of which the same things are asked as of ours. */
export interface Driver {
  /** As the table calls it. */
  who: string;
  storageClassName: string;
  volumeSnapshotClassName: string;
  /** Where its volumes have to be; left out: wherever there is room. */
  node?: string;
}

export const lamina: Driver = { who: 'Lamina', storageClassName: 'lamina', volumeSnapshotClassName: 'lamina' };

const isBound = 'jsonpath={.status.phase}=Bound';
export const isReady = 'condition=Ready';

export const waitFor = (kubectl: Kubectl, what: string, condition: string) =>
  kubectl.run(['wait', what, `--for=${condition}`, '--timeout=300s'], { timeoutMs: 310_000 });

/** How long each thing took of one volume, in ms. */
interface Durations {
  /** What kubectl itself takes to have something made and to wait for it. */
  kubectl: number;
  running: number;
  snapshot: number;
  restored: number;
}

/** One volume at a time, of each driver in turns. */
export async function measureOne(bench: Bench, kubectl: Kubectl, drivers: readonly Driver[]): Promise<Result[]> {
  const { effort, say, signal } = bench;
  const measures = drivers.map((driver) => async () => {
    signal.throwIfAborted();
    say(`kind: one volume of ${driver.who}`);
    return measureVolume(kubectl, driver);
  });
  const durations = await interleave(effort.calls / 4, measures);
  const all = (what: keyof Durations, of: readonly Durations[]) => of.map((each) => each[what]);
  return [
    medianResult('kubectl alone: apply, and wait for what is so', 'ms', all('kubectl', durations.flat())),
    ...drivers.flatMap(({ who }, index) => {
      const own = durations[index] ?? [];
      const running = all('running', own);
      return [
        medianResult(`${who}: a claim and its pod, until the pod is ready`, 'ms', running),
        medianResult(`${who}: the same, 95 of 100`, 'ms', [percentile(running, 95)]),
        medianResult(`${who}: a VolumeSnapshot, until it can be used`, 'ms', all('snapshot', own)),
        medianResult(`${who}: a restore, until it is bound`, 'ms', all('restored', own)),
      ];
    }),
  ];
}

async function measureVolume(kubectl: Kubectl, driver: Driver): Promise<Durations> {
  const { storageClassName, volumeSnapshotClassName } = driver;
  const podOf = (name: string) => pod({ name, claim: name, ...placeOf(driver) });
  const name = uniqueName('nothing');
  const alone = await timed(async () => {
    await kubectl.apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name } });
    await waitFor(kubectl, `configmap/${name}`, 'jsonpath={.kind}=ConfigMap');
  });
  const running = await timed(async () => {
    await kubectl.apply(claim({ name: 'one', storageClassName }), podOf('one'));
    await waitFor(kubectl, 'pod/one', isReady);
  });
  const taken = await timed(async () => {
    const object = snapshot('one', 'one');
    await kubectl.apply({ ...object, spec: { ...object.spec, volumeSnapshotClassName } });
    await waitFor(kubectl, 'volumesnapshot/one', 'jsonpath={.status.readyToUse}=true');
  });
  const dataSource = { kind: 'VolumeSnapshot', name: 'one' } as const;
  const restored = await timed(async () => {
    await kubectl.apply(claim({ name: 'restored', storageClassName, dataSource }), podOf('restored'));
    await waitFor(kubectl, 'pvc/restored', isBound);
  });
  for (const each of ['restored', 'one']) await kubectl.remove('pod', each);
  for (const each of ['restored', 'one']) await kubectl.remove('pvc', each);
  await kubectl.remove('volumesnapshot', 'one');
  return { kubectl: alone.ms, running: running.ms, snapshot: taken.ms, restored: restored.ms };
}

const many = 50;

/** Many volumes at once, of one driver after the other. */
export async function measureMany(
  { say, signal }: Bench,
  kubectl: Kubectl,
  drivers: readonly Driver[],
): Promise<Result[]> {
  const results: Result[] = [];
  for (const driver of drivers) {
    signal.throwIfAborted();
    say(`kind: ${many} volumes of ${driver.who} and their pods at once`);
    const { storageClassName, who } = driver;
    const names = Array.from({ length: many }, (_, index) => `many-${index}`);
    const startMs = performance.now();
    await kubectl.apply(
      ...names.flatMap((name) => [claim({ name, storageClassName }), pod({ name, claim: name, ...placeOf(driver) })]),
    );
    const until = async (what: string, condition: string) => {
      const each = names.map(async (name) => {
        await waitFor(kubectl, `${what}/${name}`, condition);
        return performance.now() - startMs;
      });
      return Promise.all(each);
    };
    const boundMs = await until('pvc', isBound);
    const readyMs = await until('pod', isReady);
    await kubectl.run(['delete', 'pod', ...names, '--wait'], { timeoutMs: 300_000 });
    await kubectl.run(['delete', 'pvc', ...names, '--wait'], { timeoutMs: 300_000 });
    results.push(
      medianResult(`${who}: ${many} claims with pods at once, until bound`, 'ms', boundMs),
      medianResult(`${who}: the same, 95 of 100`, 'ms', [percentile(boundMs, 95)]),
      medianResult(`${who}: ${many} pods at once, until ready`, 'ms', readyMs),
      medianResult(`${who}: the same, 95 of 100`, 'ms', [percentile(readyMs, 95)]),
    );
  }
  return results;
}

function placeOf({ node }: Driver): { node?: string } {
  return node === undefined ? {} : { node };
}
