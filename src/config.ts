import { delimiter, join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { MiB, parseBytes } from './lib/bytes.ts';

/** What the command line and the environment ask for; the only place that reads either. */
export type Config =
  | StandaloneConfig
  | ControllerConfig
  | NodeConfig
  | EngineConfig
  | TreeConfig
  | CheckConfig
  | KubectlConfig;

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** How much of the file system a pool may use and promise. */
export interface SpaceConfig {
  reservedFraction: number;
  criticalFraction: number;
  overcommit: number;
}

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

/** Which API server, as whom, and where objects of the system are. */
export interface ClusterConfig {
  /** A file; null for the service account of the pod. */
  kubeconfig: string | null;
  /** As kubelet tells a pod where the API server is. */
  inCluster: { host: string; port: string } | null;
  /** Null for the one of the service account or of the kubeconfig's context. */
  namespace: string | null;
}

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

export interface NodeConfig extends ClusterConfig, SpaceConfig {
  role: 'node';
  nodeName: string;
  socket: string;
  pools: { name: string; directory: string }[];
  runDir: string;
  metricsListen: string | null;
  /** How often its lease is renewed, by which the controller knows that the plugin is alive. */
  heartbeatSeconds: number;
  /** Where other nodes fetch layers: what to listen on, and what they are told; null for not at all. */
  transferListen: string | null;
  transferAddress: string | null;
  /** Bytes per second that are sent to other nodes, and fetched of them. */
  transferRate: number;
  /** How many imports run at a time, and the bytes per second that all of them may take together. */
  imports: number;
  importRate: number;
  logLevel: LogLevel;
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

export interface KubectlConfig {
  role: 'kubectl';
  kubeconfig: string;
  /** Null for the one of the kubeconfig's context, or all of them. */
  namespace: string | null;
  task: { kind: 'pools' | 'tree' } | { kind: 'why'; claim: string };
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
  const inCluster = inClusterOf(environment);
  addController(program, defaults.nodeName, (options) => {
    config = { role: 'controller', killAt, inCluster, ...options };
  });
  addNode(program, defaults.nodeName, (options) => {
    config = { role: 'node', killAt, inCluster, ...options };
  });
  addEngine(program, (options) => {
    config = { role: 'engine', ...options };
  });
  addPoolCommands(program, (chosen) => {
    config = chosen;
  });
  addKubectl(program, kubeconfigOf(environment), (options) => {
    config = { role: 'kubectl', ...options };
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
const reservedOption = () =>
  new Option('--reserved <fraction>', "part of the file system that is never used, such as 0.05 or '5%'")
    .argParser(fraction)
    .default(0);
const criticalOption = () =>
  new Option('--critical <fraction>', 'free part below which nothing new starts').argParser(fraction).default(0.02);
const overcommitOption = () =>
  new Option(
    '--overcommit <factor>',
    'how much may be promised: sum of the sizes of all disks / size of the file system',
  )
    .argParser(factor)
    .default(2);
const heartbeatOption = () =>
  new Option(
    '--heartbeat <seconds>',
    'how often its lease is renewed; after four times that without, the controller says that the node is silent',
  )
    .argParser(seconds)
    .default(60);
const metricsListenOption = () =>
  new Option(
    '--metrics-listen <address>',
    'where /metrics, /healthz and /readyz are served: a unix socket, or HOST:PORT (by HTTPS where others can reach it)',
  );
const kubeconfigOption = () =>
  new Option('--kubeconfig <file>', "how to reach the API server; the pod's service account unless given");
const namespaceOption = () =>
  new Option('--namespace <name>', 'where the objects of volumes are; its own unless given');
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
    .addOption(reservedOption())
    .addOption(criticalOption())
    .addOption(overcommitOption())
    .option('--metrics-socket <path>', 'unix socket for /metrics, /healthz and /readyz', (path: string) => path)
    .addOption(logLevel())
    .action(({ reserved, critical, metricsSocket = null, ...options }) => {
      use({ ...options, reservedFraction: reserved, criticalFraction: critical, metricsSocket });
    });
}

function addController(
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

function addNode(
  program: Command,
  nodeName: string,
  use: (options: Omit<NodeConfig, 'role' | 'killAt' | 'inCluster'>) => void,
): void {
  program
    .command('node')
    .description(
      "Serves CSI (Identity, Node) to kubelet, and makes the DiskImages and DiskSnapshots of its node. Needs root, and the node's 'lamina engine'.",
    )
    .requiredOption('--socket <path>', 'the CSI socket to listen on')
    .requiredOption('--pool <name=dir>', 'a pool of this node; may be given several times', poolOption)
    .option('--node-name <name>', "this node's name in the cluster", nodeName)
    .addOption(runDir("sockets and state of running disks, the engine's among them; must outlive this process"))
    .addOption(reservedOption())
    .addOption(criticalOption())
    .addOption(overcommitOption())
    .addOption(heartbeatOption())
    .option('--transfer-listen <address>', 'HOST:PORT at which other nodes fetch layers; not at all unless given')
    .option('--transfer-address <address>', 'HOST:PORT that other nodes are told to fetch layers from')
    .option('--transfer-rate <bytes>', 'bytes per second for layers, to other nodes and from them', rate, Infinity)
    .option('--imports <n>', 'how many imports run at a time', positive, 2)
    .option('--import-rate <bytes>', 'bytes per second for all imports together, such as 100Mi', rate, Infinity)
    .addOption(kubeconfigOption())
    .addOption(namespaceOption())
    .addOption(metricsListenOption())
    .addOption(logLevel())
    .action(({ pool: pools, reserved, critical, heartbeat: heartbeatSeconds, ...options }) => {
      const { kubeconfig: file, namespace: name, metricsListen: listen, ...rest } = options;
      const { transferListen = null, transferAddress = null, ...others } = rest;
      const cluster = { kubeconfig: file ?? null, namespace: name ?? null, metricsListen: listen ?? null };
      const space = { reservedFraction: reserved, criticalFraction: critical };
      use({ ...others, ...cluster, ...space, pools, heartbeatSeconds, transferListen, transferAddress });
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

function addKubectl(
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
function kubeconfigOf({ KUBECONFIG, HOME = '/root' }: NodeJS.ProcessEnv): string {
  return KUBECONFIG?.split(delimiter).find(Boolean) ?? join(HOME, '.kube/config');
}

function inClusterOf(environment: NodeJS.ProcessEnv): ClusterConfig['inCluster'] {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = environment;
  return host && port ? { host, port } : null;
}

function poolOption(text: string, earlier: NodeConfig['pools'] = []): NodeConfig['pools'] {
  const [, name, directory] = /^([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)=(\/.*)$/.exec(text) ?? [];
  if (!name || !directory) {
    throw new InvalidArgumentError('NAME=DIR is wanted: a name as Kubernetes knows them, and an absolute directory.');
  }
  if (earlier.some((pool) => pool.name === name || pool.directory === directory)) {
    throw new InvalidArgumentError('each pool needs a name and a directory of its own.');
  }
  return [...earlier, { name, directory }];
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
  return whole(text, 'a whole number of seconds is wanted.');
}

function positive(text: string): number {
  return whole(text, 'a whole number is wanted, of at least 1.');
}

function whole(text: string, complaint: string): number {
  const value = Number(text);
  if (!(Number.isInteger(value) && value > 0)) throw new InvalidArgumentError(complaint);
  return value;
}

function rate(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === undefined || bytes < MiB) throw new InvalidArgumentError('a size is wanted, of at least 1Mi.');
  return bytes;
}
