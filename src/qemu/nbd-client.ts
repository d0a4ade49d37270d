import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { LaminaError } from '../lib/errors.ts';

/** As in the NBD protocol (doc/proto.md), as far as reading takes it: fixed newstyle, simple replies. */
const serverMagic = 'NBDMAGICIHAVEOPT';
const clientFlags = 3; // fixed newstyle, no zeroes behind the export's description
const optionGo = 7;
const optionReply = { magic: 0x3e889045565a9n, ack: 1, info: 3 };
const infoExport = 0;
const requestMagic = 0x25609513;
const replyMagic = 0x67446698;
const command = { read: 0, disconnect: 2 };
const replyBytes = 16;

interface Waiting {
  length: number;
  resolve: (data: Buffer) => void;
  reject: (error: Error) => void;
}

/** Reads from a disk that a server on a unix socket shows. Many reads may be on their way at once. */
export class NbdClient {
  readonly sizeBytes: number;
  readonly #socket: Socket;
  readonly #waiting = new Map<bigint, Waiting>();
  #nextCookie = 1n;
  #parts: Buffer[] = [];
  #bytes = 0;
  /** So many have to be there for the next reply. */
  #needed = replyBytes;
  #failure: Error | undefined;

  /** @throws LaminaError `tool-failed` where the server does not show that disk; errors of the socket as they are */
  static async connect(socketPath: string, exportName: string): Promise<NbdClient> {
    const socket = connect(socketPath);
    try {
      await once(socket, 'connect');
      const sizeBytes = await new Handshake(socket).run(exportName);
      return new NbdClient(socket, sizeBytes);
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  private constructor(socket: Socket, sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', (error) => this.#fail(error));
    socket.once('close', () => this.#fail(new Error('the server of the disk has closed the connection')));
  }

  /** @throws LaminaError `tool-failed` where it cannot be read, or the server is gone */
  read(offset: number, length: number): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    if (this.#failure) throw toolFailed(this.#failure);
    const cookie = this.#nextCookie++;
    this.#waiting.set(cookie, { length, resolve, reject });
    this.#socket.write(request(command.read, cookie, offset, length));
    return promise;
  }

  close(): void {
    this.#socket.end(request(command.disconnect, 0n, 0, 0));
    this.#fail(new Error('it is not read any more'));
  }

  #take(chunk: Buffer): void {
    this.#parts.push(chunk);
    this.#bytes += chunk.length;
    try {
      while (this.#takeReply());
    } catch (error) {
      this.#socket.destroy();
      this.#fail(error as Error);
    }
  }

  /** @returns whether there was a whole one */
  #takeReply(): boolean {
    if (this.#bytes < this.#needed) return false;
    const all = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts);
    this.#parts = [all];
    const cookie = all.readBigUInt64BE(8);
    const waiting = this.#waiting.get(cookie);
    if (all.readUInt32BE(0) !== replyMagic || !waiting) throw new Error('the server sent what is no reply');
    const error = all.readUInt32BE(4);
    const length = error === 0 ? waiting.length : 0;
    this.#needed = replyBytes + length;
    if (all.length < this.#needed) return false;
    this.#needed = replyBytes;
    this.#waiting.delete(cookie);
    const rest = all.subarray(replyBytes + length);
    this.#parts = rest.length > 0 ? [rest] : [];
    this.#bytes = rest.length;
    if (error === 0) waiting.resolve(all.subarray(replyBytes, replyBytes + length));
    else waiting.reject(toolFailed(new Error(`errno ${error}`)));
    return true;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(toolFailed(error));
    this.#waiting.clear();
  }
}

/** Up to where reads can begin. */
class Handshake {
  readonly #socket: Socket;
  readonly #chunks: AsyncGenerator<Buffer, undefined>;
  #received = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#chunks = chunksOf(socket);
  }

  /** @returns the size of the disk */
  async run(exportName: string): Promise<number> {
    const sizeBytes = await this.#negotiate(exportName);
    // Or whoever listens for data next would get none.
    await this.#chunks.return(undefined);
    return sizeBytes;
  }

  async #negotiate(exportName: string): Promise<number> {
    const hello = await this.#read(18);
    if (hello.toString('latin1', 0, 16) !== serverMagic) throw toolFailed(new Error('this is no NBD server'));
    const name = Buffer.from(exportName);
    const go = Buffer.alloc(4 + 8 + 4 + 4 + 4 + name.length + 2);
    go.writeUInt32BE(clientFlags, 0);
    go.write('IHAVEOPT', 4, 'latin1');
    go.writeUInt32BE(optionGo, 12);
    go.writeUInt32BE(4 + name.length + 2, 16);
    go.writeUInt32BE(name.length, 20);
    name.copy(go, 24);
    this.#socket.write(go);
    return this.#sizeInReplies();
  }

  async #sizeInReplies(): Promise<number> {
    let sizeBytes: number | undefined;
    for (;;) {
      const head = await this.#read(20);
      const type = head.readUInt32BE(12);
      const data = await this.#read(head.readUInt32BE(16));
      if (head.readBigUInt64BE(0) !== optionReply.magic) throw toolFailed(new Error('this is no NBD server'));
      if (type === optionReply.info && data.readUInt16BE(0) === infoExport) sizeBytes = Number(data.readBigUInt64BE(2));
      if (type === optionReply.ack && sizeBytes !== undefined) return sizeBytes;
      if (type !== optionReply.info) throw toolFailed(new Error(`the server refuses: ${data.toString('utf8')}`));
    }
  }

  /** Exactly `length` bytes, which are few. */
  async #read(length: number): Promise<Buffer> {
    while (this.#received.length < length) {
      // A listener for `readable` would be called at once, and again and again, while too little is there.
      const { done, value } = await this.#chunks.next();
      if (done) throw toolFailed(new Error('it broke off'));
      this.#received = Buffer.concat([this.#received, value]);
    }
    const data = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return data;
  }
}

async function* chunksOf(socket: Socket): AsyncGenerator<Buffer, undefined> {
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) yield chunk as Buffer;
}

function request(type: number, cookie: bigint, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(requestMagic, 0);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

function toolFailed(error: Error): LaminaError {
  return new LaminaError('tool-failed', `reading a disk by NBD: ${error.message}`, { cause: {} });
}
