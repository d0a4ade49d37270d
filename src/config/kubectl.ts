import { delimiter, join } from 'node:path';
import type { Command } from 'commander';

export interface KubectlConfig {
  role: 'kubectl';
  kubeconfig: string;
  /** Null for the one of the kubeconfig's context, or all of them. */
  namespace: string | null;
  task: { kind: 'pools' | 'tree' } | { kind: 'why'; claim: string };
}

export function addKubectl(
  program: Command,
  kubeconfigFile: string,
  use: (options: Omit<KubectlConfig, 'role'>) => void,
): void {
  const command = program
    .command('kubectl')
    .description("What kubectl shows as 'kubectl lamina': the disks of a cluster, and what a claim waits for.");
  const add = (name: string, description: string) =>
    command
      .command(name)
      .description(description)
      .option('--kubeconfig <file>', 'how to reach the API server', kubeconfigFile);
  add('pools', 'The pools of all nodes and their space.').action(({ kubeconfig: file }) =>
    use({ kubeconfig: file, namespace: null, task: { kind: 'pools' } }),
  );
  add('tree', 'DiskImages and DiskSnapshots by node, below what they started from.')
    .option('-n, --namespace <name>', 'only those of it and of its claims')
    .action(({ kubeconfig: file, namespace: name }) =>
      use({ kubeconfig: file, namespace: name ?? null, task: { kind: 'tree' } }),
    );
  add('why', 'What a PersistentVolumeClaim waits for, and what to do. Exit code 4 where it waits for something.')
    .argument('<claim>', 'its name')
    .option('-n, --namespace <name>', "where it is; that of the kubeconfig's context unless given")
    .action((claim, { kubeconfig: file, namespace: name }) =>
      use({ kubeconfig: file, namespace: name ?? null, task: { kind: 'why', claim } }),
    );
}

/** Where kubectl looks. */
export function kubeconfigOf({ KUBECONFIG, HOME = '/root' }: NodeJS.ProcessEnv): string {
  return KUBECONFIG?.split(delimiter).find(Boolean) ?? join(HOME, '.kube/config');
}
