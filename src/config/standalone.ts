import type { Command } from 'commander';
import {
  criticalOption,
  type LogLevel,
  logLevel,
  longestPauseOption,
  overcommitOption,
  reservedOption,
  runDir,
  type SpaceConfig,
} from './options.ts';
import { nodeName } from './values.ts';

export interface StandaloneConfig extends SpaceConfig {
  role: 'standalone';
  pool: string;
  socket: string;
  runDir: string;
  nodeName: string;
  logLevel: LogLevel;
  metricsSocket: string | null;
  /** Tests only: the step after which the process kills itself (LAMINA_KILL_AT). */
  killAt: string | null;
}

export function addStandalone(
  program: Command,
  ownName: string,
  use: (options: Omit<StandaloneConfig, 'role' | 'killAt'>) => void,
): void {
  program
    .command('standalone')
    .description(
      'Serves a pool as a CSI driver (Identity, Controller and Node) on a unix socket, without Kubernetes. Needs root.',
    )
    .requiredOption(
      '--pool <dir>',
      'the pool: an empty directory, or one that a pool was made in, on ext4, xfs or btrfs',
    )
    .requiredOption('--socket <path>', 'the CSI socket to listen on')
    .addOption(runDir('sockets and state of running disks; must outlive this process, but not a reboot'))
    .option('--node-name <name>', 'this node, as topology and NodeGetInfo name it', nodeName, ownName)
    .addOption(reservedOption())
    .addOption(criticalOption())
    .addOption(overcommitOption())
    .addOption(longestPauseOption())
    .option('--metrics-socket <path>', 'unix socket for /metrics, /healthz and /readyz', (path: string) => path)
    .addOption(logLevel())
    .action(({ reserved, critical, longestPause, metricsSocket = null, ...options }) => {
      const space = { reservedFraction: reserved, criticalFraction: critical, longestPauseSeconds: longestPause };
      use({ ...options, ...space, metricsSocket });
    });
}
