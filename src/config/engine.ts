import type { Command } from 'commander';
import { type LogLevel, logLevel, runDir } from './options.ts';
import { seconds } from './values.ts';

export interface EngineConfig {
  role: 'engine';
  runDir: string;
  idleExitSeconds: number | null;
  logLevel: LogLevel;
}

export function addEngine(program: Command, use: (options: Omit<EngineConfig, 'role'>) => void): void {
  program
    .command('engine')
    .description('Runs the supervisor of the storage daemons, one per attached disk. standalone starts it by itself.')
    .addOption(runDir('where its socket and the daemons are kept'))
    .option('--idle-exit-seconds <n>', 'end when there was neither a daemon nor a request for that long', seconds)
    .addOption(logLevel())
    .action((options) => {
      use({ runDir: options.runDir, idleExitSeconds: options.idleExitSeconds ?? null, logLevel: options.logLevel });
    });
}
