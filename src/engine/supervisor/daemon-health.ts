import { isLaminaError } from '../../lib/errors.ts';
import { QmpConnection } from '../../qemu/qmp-connection.ts';

/** Asks a daemon over its health socket whether it still answers. Keeps the session open between questions. */
export class DaemonHealth {
  readonly #socketPath: string;
  readonly #timeoutMs: number;
  #connection: QmpConnection | null = null;

  constructor(socketPath: string, timeoutMs: number) {
    this.#socketPath = socketPath;
    this.#timeoutMs = timeoutMs;
  }

  /** Whether it answered within the deadline. */
  async answers(): Promise<boolean> {
    try {
      await this.#execute('query-block-exports', this.#timeoutMs);
      return true;
    } catch (error) {
      this.close();
      if (isLaminaError(error)) return false;
      throw error;
    }
  }

  /** Asks it to end. @returns whether it agreed within `timeoutMs`. */
  async quit(timeoutMs: number): Promise<boolean> {
    try {
      await this.#execute('quit', timeoutMs);
      return true;
    } catch (error) {
      if (isLaminaError(error)) return false;
      throw error;
    } finally {
      this.close();
    }
  }

  close(): void {
    this.#connection?.close();
    this.#connection = null;
  }

  async #execute(command: string, timeoutMs: number): Promise<void> {
    this.#connection ??= await QmpConnection.open(this.#socketPath, timeoutMs);
    await this.#connection.execute(command, undefined, timeoutMs);
  }
}
