import { connect, type Socket } from 'node:net';
import { errnoOf, LaminaError, messageOf } from '../lib/errors.ts';
import { LineSplitter } from '../lib/line-splitter.ts';
import { parseQmpMessage, type QmpMessage } from './qmp-messages.ts';

/** query-named-block-nodes of a long chain is some 100 KiB; more than this is no reply. */
const maxLineBytes = 16 * 1024 * 1024;

interface Pending {
  command: string;
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}

/** A QMP session with one daemon. Commands may overlap; once it has failed, every further command fails alike. */
export class QmpConnection {
  readonly #path: string;
  readonly #socket: Socket;
  readonly #lines = new LineSplitter(maxLineBytes);
  readonly #pending = new Map<number, Pending>();
  readonly #greeting = Promise.withResolvers<void>();
  #nextId = 1;
  #failure: Error | null = null;

  private constructor(path: string) {
    this.#path = path;
    this.#greeting.promise.catch(() => {});
    this.#socket = connect(path);
    this.#socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on('error', (error) => this.#fail(this.#connectionError(error)));
    this.#socket.on('close', () =>
      this.#fail(new LaminaError('engine-dead', `the storage daemon closed ${this.#path}: it ended or was killed`)),
    );
  }

  /**
   * Connects and negotiates.
   * @throws LaminaError `engine-dead` where nobody listens, `engine-unresponsive` after `timeoutMs`, `qmp-failed` for a
   *   peer that does not speak QMP.
   */
  static async open(path: string, timeoutMs: number): Promise<QmpConnection> {
    const connection = new QmpConnection(path);
    try {
      await connection.#within(timeoutMs, 'the greeting', connection.#greeting.promise);
      await connection.execute('qmp_capabilities', undefined, timeoutMs);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /**
   * Runs one command and resolves to what it returned.
   * @throws LaminaError `qmp-failed` with the server's words (see qmp-failures.ts), `engine-dead`, or
   *   `engine-unresponsive` after `timeoutMs`; the connection is of no use after the last two.
   */
  async execute(command: string, args: object | undefined, timeoutMs: number): Promise<unknown> {
    if (this.#failure) throw this.#failure;
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { command, resolve, reject });
    this.#socket.write(`${JSON.stringify({ execute: command, id, ...(args ? { arguments: args } : {}) })}\n`);
    return this.#within(timeoutMs, command, promise);
  }

  close(): void {
    this.#fail(new LaminaError('engine-unavailable', `the QMP session on ${this.#path} was closed by this side`));
  }

  async #within<T>(timeoutMs: number, what: string, promise: Promise<T>): Promise<T> {
    const timer = setTimeout(() => {
      const message = `the storage daemon at ${this.#path} gave no answer to ${what} within ${timeoutMs} ms`;
      this.#fail(new LaminaError('engine-unresponsive', message));
    }, timeoutMs);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  #receive(chunk: Buffer): void {
    try {
      for (const line of this.#lines.push(chunk)) {
        if (line !== '') this.#dispatch(parseQmpMessage(line));
      }
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(messageOf(error)));
    }
  }

  #dispatch(message: QmpMessage): void {
    if (message.kind === 'event') return;
    if (message.kind === 'greeting') return this.#greeting.resolve();
    const pending = message.id === undefined ? undefined : this.#pending.get(message.id);
    if (!pending || message.id === undefined) {
      throw new LaminaError('qmp-failed', `${this.#path}: a QMP reply to no command: ${JSON.stringify(message)}`);
    }
    this.#pending.delete(message.id);
    if (message.kind === 'success') return pending.resolve(message.value);
    const text = `${pending.command} at ${this.#path} was refused: ${message.error.desc}`;
    pending.reject(new LaminaError('qmp-failed', text, { cause: message.error }));
  }

  #fail(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#socket.destroy();
    this.#greeting.reject(error);
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  #connectionError(error: Error): LaminaError {
    // EAGAIN: the queue of a listening socket is full, because its owner does not take from it.
    const code = errnoOf(error) === 'EAGAIN' ? 'engine-unresponsive' : 'engine-dead';
    return new LaminaError(code, `no QMP at ${this.#path}: ${error.message}`, { cause: error });
  }
}
