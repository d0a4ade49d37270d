import type { Command } from 'commander';
import { type ClusterConfig, kubeconfigOption, namespaceOption } from './cluster.ts';
import { type LogLevel, logLevel, metricsListenOption } from './options.ts';
import { seconds } from './values.ts';

export interface ControllerConfig extends ClusterConfig {
  role: 'controller';
  socket: string;
  /** Of this process alone: the name of its pod. */
  identity: string;
  metricsListen: string | null;
  /** For how long a volume that nothing refers to is kept. */
  orphanGraceSeconds: number;
  logLevel: LogLevel;
  killAt: string | null;
}

export function addController(
  program: Command,
  hostName: string,
  use: (options: Omit<ControllerConfig, 'role' | 'killAt' | 'inCluster'>) => void,
): void {
  program
    .command('controller')
    .description(
      'Serves CSI (Identity, Controller) to the sidecars of a cluster, and places, adopts and clears up disks while it is elected.',
    )
    .requiredOption('--socket <path>', 'the CSI socket to listen on')
    .option('--identity <name>', 'this process among all candidates of the election', hostName)
    .option('--orphan-grace <seconds>', 'for how long a volume that nothing refers to is kept', seconds, 600)
    .addOption(kubeconfigOption())
    .addOption(namespaceOption())
    .addOption(metricsListenOption())
    .addOption(logLevel())
    .action(({ orphanGrace, kubeconfig: file, namespace: name, metricsListen: listen, ...options }) => {
      const cluster = { kubeconfig: file ?? null, namespace: name ?? null, metricsListen: listen ?? null };
      use({ ...options, ...cluster, orphanGraceSeconds: orphanGrace });
    });
}
