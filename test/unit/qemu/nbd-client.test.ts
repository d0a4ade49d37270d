import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NbdClient } from '../../../src/qemu/nbd-client.ts';

const sizeBytes = 3 * 2 ** 20;
const greeting = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, 3])]);
const content = Buffer.from(Array.from({ length: 64 }, (_, index) => index));

function optionReply(type: number, data: Buffer): Buffer {
  const head = Buffer.alloc(20);
  head.writeBigUInt64BE(0x3e889045565a9n, 0);
  head.writeUInt32BE(7, 8);
  head.writeUInt32BE(type, 12);
  head.writeUInt32BE(data.length, 16);
  return Buffer.concat([head, data]);
}

function exportInfo(): Buffer {
  const data = Buffer.alloc(12);
  data.writeBigUInt64BE(BigInt(sizeBytes), 2);
  return optionReply(3, data);
}

function reply(cookie: bigint, error: number, data: Buffer): Buffer {
  const head = Buffer.alloc(16);
  head.writeUInt32BE(0x67446698, 0);
  head.writeUInt32BE(error, 4);
  head.writeBigUInt64BE(cookie, 8);
  return Buffer.concat([head, data]);
}

describe('NbdClient', () => {
  let directory: string;
  let socketPath: string;
  let server: Server;
  const sockets = new Set<Socket>();

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'lamina-nbd-'));
    socketPath = path.join(directory, 's');
  });
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    await new Promise((resolve) => server.close(resolve));
    rmSync(directory, { recursive: true });
  });

  async function listen(onConnection: (socket: Socket) => Promise<void>): Promise<void> {
    server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      void onConnection(socket);
    }).listen(socketPath);
    await once(server, 'listening');
  }

  /** Sends it in pieces that come one by one. */
  async function trickle(socket: Socket, bytes: Buffer, pieceBytes: number): Promise<void> {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      socket.write(bytes.subarray(at, at + pieceBytes));
      for (let turns = 0; turns < 3; turns++) await turn();
    }
  }

  function answer(socket: Socket, request: Buffer, pieceBytes: number): void {
    if (request.readUInt16BE(6) !== 0) return;
    const isOdd = request.readBigUInt64BE(16) % 2n === 1n;
    const data = isOdd ? Buffer.alloc(0) : content.subarray(0, request.readUInt32BE(24));
    void trickle(socket, reply(request.readBigUInt64BE(8), isOdd ? 5 : 0, data), pieceBytes);
  }

  /** Shows a disk of which each read brings `content`; an odd offset cannot be read. */
  const serve = (pieceBytes: number) =>
    listen(async (socket) => {
      socket.setNoDelay(true);
      const described = Buffer.concat([exportInfo(), optionReply(1, Buffer.alloc(0))]);
      let isDescribed = false;
      socket.on('data', (requests: Buffer) => {
        if (!isDescribed) void trickle(socket, described, pieceBytes);
        else for (let at = 0; at + 28 <= requests.length; at += 28) answer(socket, requests.subarray(at), pieceBytes);
        isDescribed = true;
      });
      await trickle(socket, greeting, pieceBytes);
    });

  it.each([1, 7, 1000])('is greeted in pieces of %i bytes, and reads', async (pieceBytes) => {
    await serve(pieceBytes);
    const client = await NbdClient.connect(socketPath, 'disk');
    expect(client.sizeBytes).toBe(sizeBytes);
    expect(await client.read(0, 64)).toEqual(content);
    await expect(client.read(1, 64)).rejects.toMatchObject({ code: 'tool-failed' });
    expect(await client.read(512, 16)).toEqual(content.subarray(0, 16));
    client.close();
  });

  it('tells where the greeting breaks off', async () => {
    await listen(async (socket) => {
      socket.end(greeting.subarray(0, 5));
    });
    await expect(NbdClient.connect(socketPath, 'disk')).rejects.toMatchObject({ code: 'tool-failed' });
  });

  it('tells of a server of something else', async () => {
    await listen(async (socket) => {
      socket.write('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    await expect(NbdClient.connect(socketPath, 'disk')).rejects.toThrow('this is no NBD server');
  });
});
