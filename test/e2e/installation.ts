import path from 'node:path';
import { execa } from 'execa';
import { stringify } from 'yaml';
import { systemNamespace } from '../cluster/objects.ts';
import type { KindCluster } from './kind-cluster.ts';
import { isReady, type Kubectl } from './kubectl.ts';
import { type Machine, root } from './machine.ts';
import { toolsImage } from './objects.ts';

export const release = 'lamina';
const repository = 'docker.io/library/lamina';
/** Of the image that is tested. Not `latest`, which kubelet would pull. */
export const imageTag = 'e2e';
/** The image that is tested, by another tag too. */
export function image(tag: string): string {
  return `${repository}:${tag}`;
}

/** What differs from the chart's own values: the image as it was built, what the cluster does not bring, a class. */
const values = {
  image: { repository, tag: imageTag },
  snapshotController: { enabled: true },
  storageClasses: [
    { name: 'lamina', default: true },
    // Not ext4: growing a mounted one takes CAP_SYS_RESOURCE, which not every machine gives its root.
    { name: 'lamina-xfs', parameters: { 'csi.storage.k8s.io/fstype': 'xfs' } },
    { name: 'lamina-raw', parameters: { format: 'raw', preallocation: 'falloc' } },
  ],
  volumeAttributesClasses: [{ name: 'lamina-live-snapshots', parameters: { liveSnapshots: 'true' } }],
};

/** Builds the images, and brings them to the nodes. */
export async function loadImages(cluster: KindCluster): Promise<void> {
  const build = (tag: string, directory: string) =>
    execa('docker', ['build', '--quiet', '--network', 'host', '--tag', tag, directory]);
  await build(image(imageTag), root);
  await build(toolsImage, path.join(import.meta.dirname, 'image'));
  await cluster.load(image(imageTag));
  await cluster.load(toolsImage);
}

export async function applySnapshotDefinitions(kubectl: Kubectl, { snapshotDefinitions }: Machine): Promise<void> {
  await kubectl.run(['apply', '--server-side', ...snapshotDefinitions]);
}

/** `helm ACTION`, and what is to be set beside `values`. @returns what it prints */
export async function helm(
  kubectl: Kubectl,
  action: 'install' | 'upgrade',
  { set = [], args = [] }: { set?: readonly string[]; args?: readonly string[] } = {},
): Promise<string> {
  const settings = ['--values', '-', ...set.flatMap((value) => ['--set', value])];
  const chart = path.join(root, 'charts/lamina');
  return runHelm(kubectl, [action, release, chart, ...settings, ...args], stringify(values));
}

export async function runHelm(kubectl: Kubectl, args: readonly string[], input = ''): Promise<string> {
  const { stdout } = await execa('helm', ['--namespace', systemNamespace, ...args], {
    env: { KUBECONFIG: kubectl.kubeconfig },
    input,
    timeout: 300_000,
  });
  return stdout;
}

/** As after a change of the engine, or of the pools: nothing restarts them by itself. No volume may be in use. */
export async function restartEngines(kubectl: Kubectl): Promise<void> {
  const system = kubectl.in(systemNamespace);
  await system.run(['delete', 'pods', '--selector', 'app.kubernetes.io/component=engine'], { timeoutMs: 120_000 });
  await system.untilObject(
    'daemonset',
    'lamina-engine',
    ({ status }) => status?.numberReady === status?.desiredNumberScheduled,
  );
}

/** Waits until everything that was installed runs, and every node serves its pools. */
export async function untilServing(kubectl: Kubectl, nodes: readonly string[]): Promise<void> {
  const system = kubectl.in(systemNamespace);
  for (const workload of ['deployment/lamina-controller', 'daemonset/lamina-node']) {
    await system.run(['rollout', 'status', workload, '--timeout=180s'], { timeoutMs: 200_000 });
  }
  for (const node of nodes) {
    await system.untilObject('diskpool', `default.${node}`, isReady);
  }
}
