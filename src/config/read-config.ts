import { Command, CommanderError } from 'commander';
import { inClusterOf } from './cluster.ts';
import { addController, type ControllerConfig } from './controller.ts';
import { addEngine, type EngineConfig } from './engine.ts';
import { addKubectl, type KubectlConfig, kubeconfigOf } from './kubectl.ts';
import { addNode, type NodeConfig } from './node.ts';
import { addPoolCommands, type CheckConfig, type TreeConfig } from './pool-commands.ts';
import { addStandalone, type StandaloneConfig } from './standalone.ts';

/** What the command line and the environment ask for; the only place that reads either. */
export type Config =
  | StandaloneConfig
  | ControllerConfig
  | NodeConfig
  | EngineConfig
  | TreeConfig
  | CheckConfig
  | KubectlConfig;

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
