import { hostname } from 'node:os';
import { CommanderError } from 'commander';
import packageJson from '../package.json' with { type: 'json' };
import { type Config, readConfig } from './config/read-config.ts';
import { isLaminaError, messageOf } from './lib/errors.ts';

/** How this program is started again as the supervisor. */
const program = [process.execPath, process.argv[1] ?? '', 'engine'] as const;

/** Roles are loaded when they are needed: the supervisor stays small. */
async function runRole(config: Config, stop: AbortSignal): Promise<number> {
  switch (config.role) {
    case 'standalone':
      return (await import('./roles/standalone.ts')).standalone(
        { ...config, version: packageJson.version, program },
        stop,
      );
    case 'node':
      return (await import('./roles/node.ts')).node({ ...config, version: packageJson.version }, stop);
    case 'controller':
      return (await import('./roles/controller.ts')).controller({ ...config, version: packageJson.version }, stop);
    case 'kubectl':
      return (await import('./roles/kubectl/kubectl.ts')).kubectl({ ...config, version: packageJson.version });
    case 'engine':
      return (await import('./roles/engine.ts')).engine(config, stop);
    case 'tree':
      return (await import('./roles/tree.ts')).tree(config);
    case 'check':
      return (await import('./roles/check.ts')).check(config);
  }
}

async function main(): Promise<number> {
  const defaults = { nodeName: hostname(), version: packageJson.version };
  const config = readConfig(process.argv, process.env, defaults);
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort());
  return runRole(config, stop.signal);
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    // Wrong usage was already explained.
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
    process.stderr.write(`lamina: ${isLaminaError(error) ? `[${error.code}] ${error.message}` : messageOf(error)}\n`);
    if (!isLaminaError(error) && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    process.exit(8);
  },
);
