/** Told of something that moves, and of how much of it. */
export interface UnderWay {
  addBytes(bytes: number): void;
  /** Once. `stopped`: given up on purpose, or whoever asked has gone. */
  end(result: 'done' | 'failed' | 'stopped'): void;
}

/** Runs `work`, and tells how it ended: `stopped` where `signal` had been aborted by then. @throws what `work` throws */
export async function observed<T>(
  underWay: UnderWay,
  signal: AbortSignal,
  work: (addBytes: (bytes: number) => void) => Promise<T>,
): Promise<T> {
  try {
    const result = await work((bytes) => underWay.addBytes(bytes));
    underWay.end('done');
    return result;
  } catch (error) {
    underWay.end(signal.aborted ? 'stopped' : 'failed');
    throw error;
  }
}

/** For a progress that tells how much there is in all: what has been added since it was told last. */
export function addingUp(addBytes: (bytes: number) => void): (totalBytes: number) => void {
  let before: number | undefined;
  return (totalBytes) => {
    // What was there at the start came at another time.
    if (before !== undefined && totalBytes > before) addBytes(totalBytes - before);
    before = totalBytes;
  };
}
