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
}

/** Options of setpriv(1) that take all privileges away. */
export function unprivileged({ userId }: Confinement): string[] {
  const user = [`--reuid=${userId}`, `--regid=${userId}`, '--clear-groups', '--no-new-privs'];
  return [...user, '--inh-caps=-all', '--bounding-set=-all'];
}

/** prlimit(1), to be followed by a command. */
export function withinLimits({ cpuSeconds, addressSpaceBytes, fileBytes }: Confinement): string[] {
  const limits = [
    // The kernel says what it was (SIGXCPU) at the first of them; at the second it just kills.
    `--cpu=${cpuSeconds}:${cpuSeconds + 5}`,
    `--as=${addressSpaceBytes}`,
    `--fsize=${fileBytes}`,
    '--nofile=64',
    '--core=0',
  ];
  return ['prlimit', ...limits, '--'];
}

const crashes: readonly (string | undefined)[] = ['SIGSEGV', 'SIGBUS', 'SIGABRT', 'SIGTRAP', 'SIGFPE', 'SIGILL'];

/**
 * What a confined tool ran into, where its end comes from the file that it read: it would end so each time. SIGKILL is not
 * among it, which the kernel sends where the machine is out of memory, and we where this process dies.
 */
export function limitReached({ signal, stderr }: { signal: string | undefined; stderr: string }): string | undefined {
  if (signal === 'SIGXCPU') return 'takes more CPU time than an honest one of its size';
  if (signal === 'SIGXFSZ' || stderr.includes('File too large')) return 'becomes bigger than it says that it is';
  // GLib ends the program (SIGTRAP, SIGABRT) where it gets no memory.
  if (
    /Cannot allocate memory|failed to allocate|not enough memory|[Mm]emory usage limit|too much memory/.test(stderr)
  ) {
    return 'takes more memory than an honest one';
  }
  return crashes.includes(signal) ? `crashes what reads it (${signal})` : undefined;
}
