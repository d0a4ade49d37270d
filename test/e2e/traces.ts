import { execa } from 'execa';
import type { KindCluster } from './kind-cluster.ts';
import type { Kubectl } from './kubectl.ts';

/** Directories of a pool that are empty without disks. */
const filled = ['layers', 'disks', 'snapshots', 'images', 'incoming', 'tmp'].join(' ');

/** What volumes leave on a node while they are there, beside loop devices: storage daemons, mounts, files of the pool. */
const look = `
pool=/var/lib/lamina
for process in /proc/[0-9]*; do
  command=$(tr '\\0' ' ' <"$process/cmdline" 2>/dev/null) || continue
  case "$command" in *qemu-storage-daemon\\ *) echo "process: $command" ;; esac
done
grep -E '/csi\\.lamina\\.storage/|/kubernetes\\.io~csi/pvc-|/run/lamina/' /proc/self/mountinfo | sed 's/^/mount: /' || true
for directory in ${filled}; do
  [ ! -d "$pool/$directory" ] || find "$pool/$directory" -mindepth 1 -maxdepth 1 | sed 's/^/file: /'
done
`;

/** What is there of volumes in the whole cluster, one line for each trace; nothing after all of them are deleted. */
export async function tracesOf(cluster: KindCluster, kubectl: Kubectl): Promise<string[]> {
  const nodes = await Promise.all(
    cluster.workers.map(async (node) => {
      const lines = (await cluster.onNode(node, look)).split('\n').filter(Boolean);
      const loops = (await cluster.loopsOf(node)).map((loop) => `loop device: ${loop}`);
      return [...lines, ...loops].map((line) => `${node}: ${line}`);
    }),
  );
  // Whose they were cannot be told any more.
  const dead = (await execa('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-INO'])).stdout
    .split('\n')
    .filter((line) => line.trim().startsWith('/dev/') && !/\s\d+\s*$/.test(line))
    .map((line) => `loop device whose file is gone: ${line.trim()}`);
  const kinds =
    'diskimages,disksnapshots,persistentvolumes,volumesnapshotcontents,volumesnapshots,persistentvolumeclaims';
  const objects = await kubectl.list(kinds, '--all-namespaces');
  return [
    ...nodes.flat(),
    ...dead,
    ...objects.map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''} ${metadata.name}`),
  ];
}
