import { execa } from 'execa';
import { LaminaError } from './errors.ts';

export interface RunOptions {
  /** The process is killed (SIGKILL) after this time, and the call fails with `timeout`. */
  timeoutMs: number;
  /** Written to standard input, which is closed at once otherwise. */
  input?: string;
  /** Exit codes besides 0 that are an answer, not a failure. */
  okExitCodes?: readonly number[];
  /** Lowest CPU and I/O priority, for work nobody waits for. */
  background?: boolean;
  signal?: AbortSignal;
  /** For tools that read what somebody else has made. */
  confined?: Confinement;
}

/** What a tool may do that reads a file nobody trusts. It runs without privileges and without a network. */
export interface Confinement {
  /** User and group that nobody else is; the tool opens only what that may. */
  userId: number;
  cpuSeconds: number;
  addressSpaceBytes: number;
  /** No file is written beyond it. */
  fileBytes: number;
  /** Open files, which are the descriptors 3, 4, … of the tool: `/proc/self/fd/3`. */
  descriptors: readonly number[];
  /** Open files to read and write instead of standard input and output. */
  input?: number;
  output?: number;
}

export interface RunResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

/** How long a killed process may take to end. */
const killGraceMs = 5000;
/** Output beyond this is cut off: no tool we call has more to say. */
const maxOutputBytes = 16 * 1024 * 1024;

/**
 * Runs a program to its end and returns what it printed. Never a shell; the environment is fixed, so that messages
 * can be matched. The child is killed by the kernel when this process dies (PR_SET_PDEATHSIG), so that a kill -9
 * of the plugin leaves no half-done tool behind.
 *
 * @throws LaminaError `tool-missing`, `timeout`, or `tool-failed` with the tool's last words.
 */
export async function run(file: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  const { confined } = options;
  const prefix = confined ? confinement(confined) : [...endsWithUs];
  if (options.background) prefix.push('nice', '-n', '19', 'ionice', '-c', '3');
  const command = [file, ...args].join(' ');
  // No network first, which takes a privilege that setpriv then gives up.
  const [first, ...rest] = [...(confined ? ['unshare', '--net', '--'] : []), 'setpriv', ...prefix, file, ...args];
  const child = execa(first as string, rest, {
    ...environment,
    reject: false,
    timeout: options.timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: maxOutputBytes,
    ...(confined
      ? { stdio: standardFiles(confined) }
      : options.input === undefined
        ? { stdin: 'ignore' as const }
        : { input: options.input }),
    ...(options.signal ? { cancelSignal: options.signal } : {}),
  });
  const result = await endOrStuck(child, options.timeoutMs);
  if (result === 'stuck') {
    throw new LaminaError(
      'timeout',
      `${command}: killed after ${options.timeoutMs} ms and still there: it waits for its disk`,
    );
  }
  if (result.timedOut) {
    throw new LaminaError('timeout', `${command}: no end within ${options.timeoutMs} ms; killed`);
  }
  // Where the output goes into a file, there is none here.
  const { exitCode, stdout = '', stderr } = result;
  if (exitCode === 0 || (exitCode !== undefined && options.okExitCodes?.includes(exitCode))) {
    return { stdout, stderr, exitCode };
  }
  throw failure(command, { exitCode, stdout, stderr, signal: result.signal, message: result.message });
}

/**
 * Runs a program and gives its output line by line while it runs; it waits where nobody takes them. Where the reader
 * breaks off, it ends at its next output. Otherwise as `run`.
 *
 * @throws LaminaError `tool-missing`, or `tool-failed` after the last line
 */
export async function* runLines(file: string, args: readonly string[], signal?: AbortSignal): AsyncGenerator<string> {
  const child = execa('setpriv', [...endsWithUs, file, ...args], {
    ...environment,
    reject: false,
    killSignal: 'SIGKILL',
    stdin: 'ignore',
    buffer: { stdout: false },
    ...(signal ? { cancelSignal: signal } : {}),
  });
  yield* child.iterable();
  const { exitCode, stderr, signal: killedBy, message } = await child;
  if (exitCode !== 0) throw failure([file, ...args].join(' '), { exitCode, stderr, signal: killedBy, message });
}

const environment = {
  env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
  extendEnv: false,
} as const;

function standardFiles({ input, output, descriptors }: Confinement) {
  const open = (descriptor: number) => descriptor as OpenDescriptor;
  const stdin = input === undefined ? ('ignore' as const) : open(input);
  const stdout = output === undefined ? ('pipe' as const) : open(output);
  return [stdin, stdout, 'pipe' as const, ...descriptors.map(open)] as const;
}

/** What execa's types know of numbers; it takes any. */
type OpenDescriptor = 3;

/** Options of setpriv(1). */
const endsWithUs = ['--pdeathsig', 'KILL', '--'];

function confinement({ userId, cpuSeconds, addressSpaceBytes, fileBytes }: Confinement): string[] {
  const user = [`--reuid=${userId}`, `--regid=${userId}`, '--clear-groups', '--no-new-privs'];
  const limits = [
    `--cpu=${cpuSeconds}`,
    `--as=${addressSpaceBytes}`,
    `--fsize=${fileBytes}`,
    '--nofile=64',
    '--core=0',
  ];
  return [...user, '--inh-caps=-all', '--bounding-set=-all', ...endsWithUs, 'prlimit', ...limits, '--'];
}

interface Ended {
  exitCode?: number | undefined;
  stdout?: string;
  stderr?: string;
  signal?: string | undefined;
  message?: string | undefined;
}

function failure(command: string, { exitCode, stdout = '', stderr = '', signal, message }: Ended): LaminaError {
  // setpriv and nice answer 127 for a program that is not there, as a shell does.
  if (exitCode === 127) {
    return new LaminaError('tool-missing', `${command.split(' ')[0]} is not installed: ${stderr.trim()}`);
  }
  const how = exitCode === undefined ? `ended by ${signal ?? message}` : `exit code ${exitCode}`;
  const words = stderr.trim().slice(-2000) || stdout.trim().slice(-2000);
  return new LaminaError('tool-failed', `${command}: ${how}: ${words}`, { cause: { exitCode, stderr } });
}

/** A process that waits for a dead disk does not even end when it is killed, and must not keep us waiting with it. */
async function endOrStuck<T>(child: PromiseLike<T>, timeoutMs: number): Promise<T | 'stuck'> {
  const { promise: stuck, resolve } = Promise.withResolvers<'stuck'>();
  const timer = setTimeout(() => resolve('stuck'), timeoutMs + killGraceMs);
  try {
    return await Promise.race([child, stuck]);
  } finally {
    clearTimeout(timer);
  }
}

/** The exit code and standard error behind a `tool-failed`, for predicates that tell failures apart. */
export function toolFailure(error: unknown): { exitCode: number | undefined; stderr: string } | undefined {
  if (!(error instanceof LaminaError) || error.code !== 'tool-failed') return undefined;
  const cause = error.cause as { exitCode?: number; stderr?: string };
  return { exitCode: cause.exitCode, stderr: cause.stderr ?? '' };
}
