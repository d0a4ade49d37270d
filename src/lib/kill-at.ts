import { LaminaError } from './errors.ts';

/**
 * The checkpoint that tests kill a process with, right after the step it names. @throws where there is no such step
 */
export function killingCheckpoint<Step extends string>(
  killAt: string | null,
  known: readonly Step[],
): (step: Step) => void {
  if (killAt === null) return () => {};
  if (!(known as readonly string[]).includes(killAt)) {
    throw new LaminaError(
      'invalid-parameter',
      `LAMINA_KILL_AT: there is no step ${killAt}; the steps are ${known.join(', ')}`,
    );
  }
  return (step) => {
    if (step === killAt) process.kill(process.pid, 'SIGKILL');
  };
}
