import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { ifErrno, LaminaError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { pollUntil } from '../../lib/poll.ts';
import { ensureRunDirectory, type RunDirectory } from './run-directory.ts';

const startTimeoutMs = 20_000;

export interface SpawnSupervisorOptions {
  run: RunDirectory;
  command: readonly [string, ...string[]];
  answers: () => Promise<boolean>;
  logger: Logger;
}

/**
 * Starts a supervisor in a session of its own and waits until one answers: this one, or another that was quicker.
 * @throws LaminaError `engine-unavailable`
 */
export async function spawnSupervisor({ run, command, answers, logger }: SpawnSupervisorOptions): Promise<void> {
  await ensureRunDirectory(run);
  const log = openSync(run.log, 'a', 0o600);
  const [file, ...args] = command;
  const child = spawn(file, args, { cwd: '/', detached: true, stdio: ['ignore', log, log] });
  closeSync(log);
  child.unref();
  let ending: string | null = null;
  child.once('exit', (code, signal) => {
    ending = `ended with ${signal ?? `exit code ${code}`}`;
  });
  child.once('error', (error) => {
    ending = `cannot be started: ${error.message}`;
  });
  logger.info({ runDir: run.root, pid: child.pid }, 'starting the supervisor');
  const isSettled = async () => (await answers()) || ending !== null;
  await pollUntil(isSettled, { timeoutMs: startTimeoutMs, intervalMs: 20 });
  // One that lost the race for the lock has ended; the winner may still need a moment.
  if (await pollUntil(answers, { timeoutMs: 2000, intervalMs: 20 })) return;
  const words = (await readFile(run.log, 'utf8').catch(ifErrno('ENOENT', ''))).trim().slice(-1000);
  throw new LaminaError(
    'engine-unavailable',
    `the engine's supervisor (${command.join(' ')}) ${ending ?? `did not answer within ${startTimeoutMs} ms`}: ${words}`,
  );
}
