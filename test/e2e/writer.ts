import { expect } from 'vitest';
import type { Kubectl } from './kubectl.ts';
import * as objects from './objects.ts';

/**
 * What a pod runs that writes one numbered line after the other to /data/log, each flushed before it counts as done in
 * /tmp/done, and notes every error in /tmp/errors.
 */
export const writerScript = `
number=$(wc -l </data/log 2>/dev/null || echo 0)
while :; do
  if printf '%08d\\n' "$number" >>/data/log && sync /data/log; then
    number=$((number + 1)); echo "$number" >/tmp/done.new && mv /tmp/done.new /tmp/done
  else
    date +%T.%N >>/tmp/errors; sleep 0.2
  fi
  sleep 0.02
done`;

/** Makes a volume, and a pod of the same name that writes to it. @returns the pod's node, when it writes */
export async function startWriter(
  kubectl: Kubectl,
  { name, node, ...spec }: { name: string; node?: string; storageClassName?: string; size?: string },
): Promise<string> {
  const place = node === undefined ? {} : { node };
  await kubectl.apply(
    objects.claim({ name, ...spec }),
    objects.pod({ name, claim: name, script: writerScript, ...place }),
  );
  await kubectl.untilReady(name);
  await progressOf(kubectl, name);
  return (await kubectl.get('pod', name))?.spec.nodeName;
}

/** Waits until a writer has written some lines. @returns how many are surely on disk */
export async function progressOf(kubectl: Kubectl, pod: string): Promise<number> {
  const from = await doneBy(kubectl, pod);
  await expect.poll(() => doneBy(kubectl, pod), { timeout: 60_000, interval: 500 }).toBeGreaterThan(from + 10);
  return doneBy(kubectl, pod);
}

/** How often a writer failed. */
export async function errorsOf(kubectl: Kubectl, pod: string): Promise<number> {
  return Number(await kubectl.inPod(pod, 'cat /tmp/errors 2>/dev/null | wc -l || true'));
}

/** Fails unless the volume that a pod has at /data holds the first `count` lines at least, and each one right. */
export async function expectWritten(kubectl: Kubectl, pod: string, count: number): Promise<void> {
  // A last line that was cut off was never done.
  const script = `awk '$0 != sprintf("%08d", NR - 1) { if (NR <= ${count}) { print "line " NR ": " $0; bad = 1 } } END { print NR; exit bad }' /data/log`;
  expect(Number((await kubectl.inPod(pod, script)).split('\n').at(-1))).toBeGreaterThanOrEqual(count);
}

async function doneBy(kubectl: Kubectl, pod: string): Promise<number> {
  return Number((await kubectl.inPod(pod, 'cat /tmp/done 2>/dev/null || echo 0')).trim());
}
