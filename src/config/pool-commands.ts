import type { Command } from 'commander';

export interface TreeConfig {
  role: 'tree';
  pool: string;
  json: boolean;
}

export interface CheckConfig {
  role: 'check';
  pool: string;
  repair: boolean;
  json: boolean;
}

const exitCodes = `
Exit codes:
  0   clean
  1   problems were found, and all are repaired
  4   problems remain
  8   the check could not be done`;

export function addPoolCommands(program: Command, use: (config: TreeConfig | CheckConfig) => void): void {
  program
    .command('tree')
    .description('Shows the layers, disks and snapshots of a pool with their sizes. Can be used while it is served.')
    .argument('<pool>', 'the pool directory')
    .option('--json', 'for programs')
    .action((pool, options) => use({ role: 'tree', pool, json: options.json ?? false }));
  program
    .command('check')
    .description('Checks a pool: records against files against QCOW2 headers, and the images themselves.')
    .argument('<pool>', 'the pool directory')
    .option(
      '--repair',
      'finish or undo what was interrupted, and set damaged records aside; the pool must not be served',
    )
    .option('--json', 'for programs')
    .addHelpText('after', exitCodes)
    .action((pool, options) =>
      use({ role: 'check', pool, repair: options.repair ?? false, json: options.json ?? false }),
    );
}
