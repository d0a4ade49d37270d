const blockBytes = 1024 * 1024;

/** What comes in pieces that are worth a write each. Where it breaks off, what came before that is given first. @throws the reason of `signal`; what `pieces` throws */
export async function* blocksOf(pieces: AsyncIterable<Buffer>, signal: AbortSignal): AsyncGenerator<Buffer> {
  let waiting: Buffer[] = [];
  let bytes = 0;
  const take = () => {
    const block = Buffer.concat(waiting, bytes);
    [waiting, bytes] = [[], 0];
    return block;
  };
  let failure: { error: unknown } | undefined;
  try {
    for await (const piece of pieces) {
      waiting.push(piece);
      bytes += piece.length;
      if (bytes >= blockBytes) yield take();
    }
  } catch (error) {
    failure = { error };
  }
  signal.throwIfAborted();
  if (bytes > 0) yield take();
  if (failure) throw failure.error;
}

/** The same pieces, but no longer than `signal` lets wait for one. @throws the reason of `signal` */
export async function* abortable(pieces: AsyncIterable<Buffer>, signal: AbortSignal): AsyncGenerator<Buffer> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason as Error);
  signal.addEventListener('abort', abort, { once: true });
  const iterator = pieces[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await Promise.race([iterator.next(), aborted]);
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener('abort', abort);
    // Whoever gives the pieces may be waiting for one that never comes.
    iterator.return?.().catch(() => {});
  }
}
