import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';

/** What the command line and the environment ask for; the only place that reads either. */
export type Config = StandaloneConfig | EngineConfig | TreeConfig | CheckConfig;

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface StandaloneConfig {
  role: 'standalone';
  pool: string;
  socket: string;
  runDir: string;
  nodeName: string;
  logLevel: LogLevel;
  reservedFraction: number;
  criticalFraction: number;
  overcommit: number;
  metricsSocket: string | null;
  /** Tests only: the step after which the process kills itself (LAMINA_KILL_AT). */
  killAt: string | null;
}

export interface EngineConfig {
  role: 'engine';
  runDir: string;
  idleExitSeconds: number | null;
  logLevel: LogLevel;
}

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

/**
 * @param argv as in process.argv
 * @throws CommanderError with the exit code, after help, the version or what is wrong was printed
 */
export function readConfig(
  argv: readonly string[],
  environment: NodeJS.ProcessEnv,
  defaults: { nodeName: string; version: string },
): Config {
  let config: Config | undefined;
  const program = new Command('lamina')
    .description('Copy-on-write disk images on any directory: volumes with snapshots, clones and restores in a blink.')
    .version(defaults.version)
    .showHelpAfterError('(--help tells more)')
    .exitOverride();
  const killAt = environment['LAMINA_KILL_AT'] || null;
  addStandalone(program, defaults.nodeName, (options) => {
    config = { role: 'standalone', killAt, ...options };
  });
  addEngine(program, (options) => {
    config = { role: 'engine', ...options };
  });
  addPoolCommands(program, (chosen) => {
    config = chosen;
  });
  program.parse(argv);
  // commander has printed help and thrown where no command was given.
  if (!config) throw new CommanderError(2, 'lamina.command', 'no command');
  return Object.freeze(config);
}

const logLevel = () =>
  new Option('--log-level <level>', 'what is logged to standard error')
    .choices(['debug', 'info', 'warn', 'error'])
    .default('info');
const runDir = (what: string) => new Option('--run-dir <dir>', what).default('/run/lamina');

function addStandalone(
  program: Command,
  nodeName: string,
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
    .option('--node-name <name>', 'this node, as topology and NodeGetInfo name it', nodeName)
    .option('--reserved <fraction>', "part of the file system that is never used, such as 0.05 or '5%'", fraction, 0)
    .option('--critical <fraction>', 'free part below which nothing new starts', fraction, 0.02)
    .option(
      '--overcommit <factor>',
      'how much may be promised: sum of the sizes of all disks / size of the file system',
      factor,
      2,
    )
    .option('--metrics-socket <path>', 'unix socket for /metrics, /healthz and /readyz', (path: string) => path)
    .addOption(logLevel())
    .action(({ reserved, critical, metricsSocket = null, ...options }) => {
      use({ ...options, reservedFraction: reserved, criticalFraction: critical, metricsSocket });
    });
}

function addEngine(program: Command, use: (options: Omit<EngineConfig, 'role'>) => void): void {
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

function addPoolCommands(program: Command, use: (config: TreeConfig | CheckConfig) => void): void {
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

function fraction(text: string): number {
  const value = text.endsWith('%') ? Number(text.slice(0, -1)) / 100 : Number(text);
  if (!(value >= 0 && value < 1))
    throw new InvalidArgumentError('a fraction from 0 to below 1, or a percentage, is wanted.');
  return value;
}

function factor(text: string): number {
  const value = Number(text);
  if (!(value >= 1 && value <= 1e6)) throw new InvalidArgumentError('a number of at least 1 is wanted.');
  return value;
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(Number.isInteger(value) && value > 0)) throw new InvalidArgumentError('a whole number of seconds is wanted.');
  return value;
}
