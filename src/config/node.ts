import { type Command, InvalidArgumentError, Option } from 'commander';
import { type ClusterConfig, kubeconfigOption, namespaceOption } from './cluster.ts';
import {
  criticalOption,
  type LogLevel,
  logLevel,
  longestPauseOption,
  metricsListenOption,
  overcommitOption,
  reservedOption,
  runDir,
  type SpaceConfig,
} from './options.ts';
import { nodeName, positive, rate, seconds, toldAddress } from './values.ts';

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
  /** Bytes per second that are sent to other nodes, and fetched of them; and that are exported. */
  transferRate: number;
  /** Where people export and upload: what to listen on, what they are told, and in which pod it is; null for not at all. */
  exportListen: string | null;
  exportAddress: string | null;
  exportPod: string | null;
  /** How many imports run at a time, and the bytes per second that all of them may take together. */
  imports: number;
  importRate: number;
  logLevel: LogLevel;
  killAt: string | null;
}

const heartbeatOption = () =>
  new Option(
    '--heartbeat <seconds>',
    'how often its lease is renewed; after four times that without, the controller says that the node is silent',
  )
    .argParser(seconds)
    .default(60);

export function addNode(
  program: Command,
  ownName: string,
  use: (options: Omit<NodeConfig, 'role' | 'killAt' | 'inCluster'>) => void,
): void {
  addExchange(program.command('node'))
    .description(
      "Serves CSI (Identity, Node) to kubelet, and makes the DiskImages and DiskSnapshots of its node. Needs root, and the node's 'lamina engine'.",
    )
    .requiredOption('--socket <path>', 'the CSI socket to listen on')
    .requiredOption('--pool <name=dir>', 'a pool of this node; may be given several times', poolOption)
    .option('--node-name <name>', "this node's name in the cluster", nodeName, ownName)
    .addOption(runDir("sockets and state of running disks, the engine's among them; must outlive this process"))
    .addOption(reservedOption())
    .addOption(criticalOption())
    .addOption(overcommitOption())
    .addOption(longestPauseOption())
    .addOption(heartbeatOption())
    .option('--imports <n>', 'how many imports run at a time', positive, 2)
    .option('--import-rate <bytes>', 'bytes per second for all imports together, such as 100Mi', rate, Infinity)
    .addOption(kubeconfigOption())
    .addOption(namespaceOption())
    .addOption(metricsListenOption())
    .addOption(logLevel())
    .action(({ pool: pools, reserved, critical, heartbeat: heartbeatSeconds, longestPause, ...options }) => {
      const { kubeconfig: file, namespace: name, metricsListen: listen, ...rest } = options;
      const cluster = { kubeconfig: file ?? null, namespace: name ?? null, metricsListen: listen ?? null };
      const space = { reservedFraction: reserved, criticalFraction: critical, longestPauseSeconds: longestPause };
      use({ ...rest, ...cluster, ...space, ...exchangeOf(rest), pools, heartbeatSeconds });
    });
}

/** Options of what goes to other nodes and to people, and comes from them. */
function addExchange(command: Command): Command {
  return command
    .option('--transfer-listen <address>', 'HOST:PORT at which other nodes fetch layers; not at all unless given')
    .option('--transfer-address <address>', 'HOST:PORT that other nodes are told to fetch layers from', toldAddress)
    .option('--transfer-rate <bytes>', 'bytes per second to other nodes, from them, and for exports', rate, Infinity)
    .option('--export-listen <address>', 'HOST:PORT at which disks are exported and uploaded; not at all unless given')
    .option(
      '--export-address <address>',
      'HOST:PORT that people are told to export from; as --export-listen unless given',
      toldAddress,
    )
    .option('--export-pod <name>', 'the pod that this is, for kubectl port-forward');
}

type Exchange = Pick<NodeConfig, 'transferListen' | 'transferAddress' | 'exportListen' | 'exportAddress' | 'exportPod'>;

function exchangeOf(given: Partial<Exchange>): Exchange {
  const { transferListen = null, transferAddress = null, exportListen = null, exportPod = null } = given;
  return {
    transferListen,
    transferAddress,
    exportListen,
    exportAddress: given.exportAddress ?? exportListen,
    exportPod,
  };
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
