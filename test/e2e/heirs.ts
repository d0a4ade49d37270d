import type { Kubectl } from './kubectl.ts';
import { claim, pod } from './objects.ts';

interface Place {
  /** Where the pod runs; left out: anywhere. */
  node?: string;
  /** Left out: what the chart makes. */
  storageClassName?: string;
  size?: string;
}

/**
 * Starts a volume from a DiskImage, and reads it.
 *
 * @param bytes how much of it, from its start
 * @returns `sha256:HEX` of that
 */
export async function digestOfHeir(
  kubectl: Kubectl,
  image: string,
  bytes: number,
  { node, ...spec }: Place = {},
): Promise<string> {
  const name = `reads-${image}`;
  await kubectl.apply(
    claim({ name, image, volumeMode: 'Block', ...spec }),
    pod({ name, claim: name, block: true, ...(node === undefined ? {} : { node }) }),
  );
  await kubectl.untilReady(name);
  const digest = await kubectl.inPod(name, `head -c ${bytes} /dev/data | sha256sum | cut -d' ' -f1`);
  await kubectl.remove('pod', name);
  await kubectl.remove('pvc', name);
  return `sha256:${digest.trim()}`;
}
