import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { LaminaError } from '../../lib/errors.ts';
import { errorInAnswer } from '../http-answers.ts';
import type { Frame, FrameParser } from './layer-frames.ts';
import { layerRequestPath } from './layer-request.ts';
import { connectionFailure, connectOptions, type PeerConnection, stalled } from './peer.ts';

/** What TLS hands over at once. */
const readBytes = 16 * 1024;
/** So many frames may wait until the connection is not read any more. */
const maxWaiting = 4;
/** More is no head of an answer, and no failure. */
const maxHeadBytes = 16 * 1024;

export interface LayerStreamRequest {
  pool: string;
  id: string;
  etag: string;
  from: number;
}

/**
 * Asks a node for the frames of a layer's file, and ends when it does. This is HTTP/1.0, with a body that lasts until the
 * connection is closed, spoken by hand: it can then be read into the same memory all the time, which halves the work of
 * Node's own client, nearly all of which is allocating.
 *
 * @throws LaminaError `layer-not-found`, `layer-changed`, `peer-unavailable`, `peer-untrusted`, `peer-invalid`
 */
export async function* layerFrames(
  connection: PeerConnection,
  request: LayerStreamRequest,
  parser: FrameParser,
): AsyncGenerator<Frame> {
  const answer = new Answer(parser);
  const socket = open(connection, answer, request);
  try {
    for (;;) {
      for (const frame of answer.takeFrames()) yield frame;
      if (answer.isOver) return;
      socket.resume();
      await answer.changed();
    }
  } catch (error) {
    throw connectionFailure(connection, error);
  } finally {
    socket.destroy();
  }
}

function open(connection: PeerConnection, answer: Answer, { pool, id, etag, from }: LayerStreamRequest): TLSSocket {
  const buffer = Buffer.allocUnsafeSlow(readBytes);
  const options: ConnectionOptions & { onread: unknown } = {
    ...connectOptions(connection),
    onread: { buffer, callback: (length: number) => answer.push(buffer.subarray(0, length)) },
  };
  const socket = connect(options);
  socket.once('secureConnect', () => {
    const path = `${layerRequestPath(pool, 'layer', id)}?from=${from}`;
    socket.write(`GET ${path} HTTP/1.0\r\nHost: ${connection.peer.node}\r\nIf-Match: "${etag}"\r\n\r\n`);
  });
  socket.setTimeout(connection.stallMs, () => socket.destroy(stalled(connection)));
  socket.on('error', (error) => answer.fail(error));
  socket.once('close', () => answer.close());
  const abort = () => answer.fail(connection.signal.reason as Error);
  connection.signal.addEventListener('abort', abort, { once: true });
  socket.once('close', () => connection.signal.removeEventListener('abort', abort));
  if (connection.signal.aborted) abort();
  return socket;
}

/** Takes an answer apart while it comes in, between a socket that pushes and a reader that takes. */
class Answer {
  readonly #parser: FrameParser;
  #status: number | undefined;
  /** The head; after it, of a refusal, the body. */
  #text = Buffer.alloc(0);
  #frames: Frame[] = [];
  #closed = false;
  #failure: Error | undefined;
  #wake: () => void = () => {};

  constructor(parser: FrameParser) {
    this.#parser = parser;
  }

  /** @returns whether more is wanted */
  push(chunk: Buffer): boolean {
    try {
      this.#take(chunk);
    } catch (error) {
      this.fail(error as Error);
    }
    if (this.#frames.length > 0) this.#wake();
    return this.#failure === undefined && this.#frames.length < maxWaiting;
  }

  fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }

  close(): void {
    this.#closed = true;
    this.#wake();
  }

  takeFrames(): Frame[] {
    const frames = this.#frames;
    this.#frames = [];
    return frames;
  }

  /** Whether all has been taken. @throws why not, where the connection is gone */
  get isOver(): boolean {
    if (this.#frames.length > 0) return false;
    if (this.#parser.ended) return true;
    if (this.#failure) throw this.#failure;
    if (!this.#closed) return false;
    if (this.#status === 200 || this.#status === undefined) throw new Error('the connection was closed early');
    throw errorInAnswer(this.#status, this.#text.toString('utf8'));
  }

  /** Resolves when there is something new. */
  changed(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    if (this.#frames.length > 0 || this.#closed || this.#failure) resolve();
    return promise;
  }

  #take(chunk: Buffer): void {
    if (this.#status === 200) {
      this.#frames.push(...this.#parser.push(chunk));
      return;
    }
    this.#text = Buffer.concat([this.#text, chunk]);
    if (this.#text.length > maxHeadBytes)
      throw new LaminaError('peer-invalid', 'the head of the peer’s answer does not end');
    const end = this.#text.indexOf('\r\n\r\n');
    if (this.#status !== undefined || end === -1) return;
    this.#status = Number(/^HTTP\/1\.[01] ([0-9]{3}) /.exec(this.#text.toString('latin1'))?.[1] ?? 0);
    const body = this.#text.subarray(end + 4);
    this.#text = Buffer.alloc(0);
    if (body.length > 0) this.#take(body);
  }
}
