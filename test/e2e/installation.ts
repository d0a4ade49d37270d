import path from 'node:path';
import { execa } from 'execa';
import type { KindCluster } from './kind-cluster.ts';
import type { Kubectl } from './kubectl.ts';
import { type Machine, root } from './machine.ts';

export const release = 'lamina';
export const systemNamespace = 'lamina-system';
const repository = 'docker.io/library/lamina';
/** Of the image that is tested. Not `latest`, which kubelet would pull. */
export const imageTag = 'e2e';
/** What the pods of the stories run. */
export const toolsImage = 'docker.io/library/lamina-e2e-tools:1';

/** What differs from the chart's own values: the image as it was built, and what the cluster does not bring. */
export const values: readonly string[] = [
  `image.repository=${repository}`,
  `image.tag=${imageTag}`,
  'snapshotController.enabled=true',
];

/** Builds the images, and brings them to the nodes. */
export async function loadImages(cluster: KindCluster): Promise<void> {
  const build = (tag: string, directory: string) =>
    execa('docker', ['build', '--quiet', '--network', 'host', '--tag', tag, directory]);
  await build(`${repository}:${imageTag}`, root);
  await build(toolsImage, path.join(import.meta.dirname, 'image'));
  await cluster.load(`${repository}:${imageTag}`);
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
  const settings = [...values, ...set].flatMap((value) => ['--set', value]);
  return runHelm(kubectl, [
    action,
    release,
    path.join(root, 'charts/lamina'),
    '--create-namespace',
    ...settings,
    ...args,
  ]);
}

export async function runHelm(kubectl: Kubectl, args: readonly string[]): Promise<string> {
  const { stdout } = await execa('helm', ['--namespace', systemNamespace, ...args], {
    env: { KUBECONFIG: kubectl.kubeconfig },
    stdin: 'ignore',
    timeout: 300_000,
  });
  return stdout;
}

/** Waits until everything that was installed runs, and every node serves its pools. */
export async function untilServing(kubectl: Kubectl, nodes: readonly string[]): Promise<void> {
  const system = kubectl.in(systemNamespace);
  for (const workload of ['deployment/lamina-controller', 'daemonset/lamina-node']) {
    await system.run(['rollout', 'status', workload, '--timeout=180s'], { timeoutMs: 200_000 });
  }
  for (const node of nodes) {
    await system.untilObject('diskpool', `default.${node}`, ({ status }) =>
      status?.conditions?.some((is: { type: string; status: string }) => is.type === 'Ready' && is.status === 'True'),
    );
  }
}
