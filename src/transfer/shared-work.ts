interface Flight<P> {
  promise: Promise<void>;
  controller: AbortController;
  listeners: Set<(progress: P) => void>;
}

export interface Participant<P> {
  signal: AbortSignal;
  onProgress: (progress: P) => void;
}

/** Does for many what they all need once, however many ask for it meanwhile. Ends it when nobody wants it any more. */
export class SharedWork<P> {
  readonly #flights = new Map<string, Flight<P>>();

  /**
   * Joins the work on `key`, or starts it. @throws what the work does, or the reason of the participant's own signal
   */
  async run(
    key: string,
    { signal, onProgress }: Participant<P>,
    work: (everybody: Participant<P>) => Promise<void>,
  ): Promise<void> {
    signal.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#start(key, work);
    // One of its own for each, as a set holds the same function only once.
    const listener = (progress: P) => onProgress(progress);
    flight.listeners.add(listener);
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const abort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    try {
      await Promise.race([flight.promise, aborted]);
    } finally {
      signal.removeEventListener('abort', abort);
      flight.listeners.delete(listener);
      if (flight.listeners.size === 0) this.#end(key, flight, signal.reason);
    }
  }

  #start(key: string, work: (everybody: Participant<P>) => Promise<void>): Flight<P> {
    const controller = new AbortController();
    const listeners: Flight<P>['listeners'] = new Set();
    const onProgress = (progress: P) => {
      for (const listener of listeners) listener(progress);
    };
    const flight = { promise: work({ signal: controller.signal, onProgress }), controller, listeners };
    this.#flights.set(key, flight);
    return flight;
  }

  #end(key: string, flight: Flight<P>, reason: unknown): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
    flight.promise.catch(() => {});
    flight.controller.abort(reason);
  }
}
