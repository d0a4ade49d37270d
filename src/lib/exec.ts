import { execa } from 'execa';
import { type Confinement, unprivileged, withinLimits } from './confinement.ts';
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
  const command = [file, ...args].join(' ');
  const [first, ...rest] = wrapped([file, ...args], options);
  const child = execa(first, rest, {
    ...environment,
    reject: false,
    timeout: options.timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: maxOutputBytes,
    ...(confined
      ? { stdio: ['ignore', 'pipe', 'pipe', ...confined.descriptors.map((each) => each as OpenDescriptor)] }
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
  const { exitCode, stdout, stderr } = result;
  if (exitCode === 0 || (exitCode !== undefined && options.okExitCodes?.includes(exitCode))) {
    return { stdout, stderr, exitCode };
  }
  throw failure(command, result);
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

export interface FilterOptions extends Pick<RunOptions, 'timeoutMs' | 'background' | 'signal'> {
  /** An open file, read from where it stands. */
  input: number;
  confined: Confinement;
}

/**
 * Runs a confined program that turns its standard input into its standard output, and gives that in pieces while it
 * runs; it waits where nobody takes them, and is killed where the reader breaks off. Otherwise as `run`.
 *
 * @throws LaminaError `tool-missing`, `timeout`, or `tool-failed` after the last piece; the reason of the signal
 */
export async function* runFilter(
  file: string,
  args: readonly string[],
  options: FilterOptions,
): AsyncGenerator<Buffer> {
  const { input, timeoutMs, signal } = options;
  const [first, ...rest] = wrapped([file, ...args], options);
  const child = execa(first, rest, {
    ...environment,
    reject: false,
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: maxOutputBytes,
    stdio: [input as OpenDescriptor, 'pipe', 'pipe'],
    buffer: { stdout: false },
    ...(signal ? { cancelSignal: signal } : {}),
  });
  let ended: Awaited<typeof child> | 'stuck' = 'stuck';
  let read = false;
  try {
    // Of a killed process there may be an error here; its end tells more.
    yield* untilBroken(child.stdout);
    read = true;
  } finally {
    if (!read) child.kill('SIGKILL');
    ended = await endOrStuck(child, read ? timeoutMs : 0);
  }
  signal?.throwIfAborted();
  const command = [file, ...args].join(' ');
  if (ended === 'stuck' || ended.timedOut) {
    throw new LaminaError('timeout', `${command}: no end within ${timeoutMs} ms; killed`);
  }
  const { exitCode, stderr, signal: killedBy, message } = ended;
  if (exitCode !== 0) throw failure(command, { exitCode, stderr, signal: killedBy, message });
}

async function* untilBroken(stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const chunks = stream[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await chunks.next().catch(() => null);
      if (next === null || next.done) return;
      yield next.value;
    }
  } finally {
    await chunks.return?.();
  }
}

/** The command line that runs `command` as `options` say. */
function wrapped(
  command: readonly string[],
  { confined, background }: Pick<RunOptions, 'confined' | 'background'>,
): [string, ...string[]] {
  const polite = background ? ['nice', '-n', '19', 'ionice', '-c', '3'] : [];
  if (!confined) return ['setpriv', ...endsWithUs, ...polite, ...command];
  // No network first, which takes a privilege that setpriv then gives up.
  return [
    'unshare',
    '--net',
    '--',
    'setpriv',
    ...unprivileged(confined),
    ...endsWithUs,
    ...withinLimits(confined),
    ...polite,
    ...command,
  ];
}

const environment = {
  env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
  extendEnv: false,
} as const;

/** What execa's types know of numbers; it takes any. */
type OpenDescriptor = 3;

/** Options of setpriv(1). */
const endsWithUs = ['--pdeathsig', 'KILL', '--'];

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
  return new LaminaError('tool-failed', `${command}: ${how}: ${words}`, { cause: { exitCode, stderr, signal } });
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

export interface ToolFailure {
  exitCode: number | undefined;
  /** What ended it, such as `SIGXCPU`. */
  signal: string | undefined;
  stderr: string;
}

/** How a tool ended, behind a `tool-failed`, for predicates that tell failures apart. */
export function toolFailure(error: unknown): ToolFailure | undefined {
  if (!(error instanceof LaminaError) || error.code !== 'tool-failed') return undefined;
  const { exitCode, signal, stderr = '' } = error.cause as Partial<ToolFailure>;
  return { exitCode, signal, stderr };
}
