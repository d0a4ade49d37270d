import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { QmpClient } from '../../../src/qemu/qmp-client.ts';
import { QmpConnection } from '../../../src/qemu/qmp-connection.ts';
import { isDuplicateNode, isUnknownNode } from '../../../src/qemu/qmp-failures.ts';

const greeting = '{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}}, "capabilities": ["oob"]}}\r\n';

/** For what answers, however busy the machine is. */
const patientMs = 15_000;

interface Command {
  execute: string;
  id: number;
  arguments?: unknown;
}

let directory: string;
let socketPath: string;
let server: Server | null;
const sockets = new Set<Socket>();

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lamina-qmp-'));
  socketPath = path.join(directory, 'qmp.sock');
  server = null;
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  if (server) await new Promise((resolve) => server?.close(resolve));
  rmSync(directory, { recursive: true });
});

async function listen(onConnection: (socket: Socket) => void): Promise<void> {
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  server.listen(socketPath);
  await once(server, 'listening');
}

/** A server that greets, accepts the negotiation, and answers commands with what `answer` writes. */
function serve(answer: (socket: Socket, command: Command) => void): Promise<void> {
  return listen((socket) => {
    socket.write(greeting);
    socket.on('data', (chunk) => {
      for (const line of chunk.toString().split('\n').filter(Boolean)) {
        const command = JSON.parse(line) as Command;
        if (command.execute === 'qmp_capabilities') socket.write(`{"return": {}, "id": ${command.id}}\r\n`);
        else answer(socket, command);
      }
    });
  });
}

const refuse =
  (desc: string) =>
  (socket: Socket, { id }: Command) =>
    socket.write(`${JSON.stringify({ id, error: { class: 'GenericError', desc } })}\r\n`);

async function connected<T>(work: (qmp: QmpClient) => Promise<T>, timeoutMs = patientMs): Promise<T> {
  const qmp = await QmpClient.open(socketPath, timeoutMs);
  try {
    return await work(qmp);
  } finally {
    qmp.close();
  }
}

describe('QmpClient', () => {
  it('reads replies among events, in pieces, and longer than a chunk', async () => {
    const filename = `/pool/${'ü'.repeat(200_000)}`;
    await serve((socket, { id }) => {
      const node = { 'node-name': 'l1', drv: 'qcow2', ro: false, image: { filename, 'virtual-size': 4096 } };
      const bytes = Buffer.from(`{"event": "BLOCK_IO", "data": {}}\r\n${JSON.stringify({ return: [node], id })}\r\n`);
      for (let at = 0; at < bytes.length; at += 9973) socket.write(bytes.subarray(at, at + 9973));
    });
    const [node] = await connected((qmp) => qmp.queryNamedBlockNodes());
    expect(node).toEqual({ nodeName: 'l1', driver: 'qcow2', readOnly: false, filename, virtualSizeBytes: 4096 });
  });

  it('gives each command its own reply, in whatever order they come', async () => {
    const held: Command[] = [];
    await serve((socket, command) => {
      held.push(command);
      if (held.length < 2) return;
      const exported = { id: 'disk', type: 'fuse', 'node-name': 'l1', 'shutting-down': false };
      for (const { execute, id } of held.reverse()) {
        socket.write(`${JSON.stringify({ return: execute === 'query-block-exports' ? [exported] : {}, id })}\n`);
      }
    });
    const [exports] = await connected((qmp) => Promise.all([qmp.queryBlockExports(), qmp.quit()]));
    expect(exports).toEqual([{ id: 'disk', type: 'fuse', nodeName: 'l1' }]);
  });

  it("fails with the server's words, and tells the refusals apart", async () => {
    await serve(refuse("Duplicate nodes with node-name='l1'"));
    const failure = await connected((qmp) => qmp.blockdevDel('l1')).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'qmp-failed', message: expect.stringContaining("node-name='l1'") });
    expect([isDuplicateNode(failure), isUnknownNode(failure)]).toEqual([true, false]);
  });

  it.each(["Cannot find device='' nor node-name='l1'", "Failed to find node with node-name='l1'"])(
    'knows that %s means an unknown node',
    async (desc) => {
      await serve(refuse(desc));
      const failure = await connected((qmp) => qmp.blockResize('l1', 1)).catch((error: unknown) => error);
      expect(isUnknownNode(failure)).toBe(true);
    },
  );

  it('says that a daemon is dead where nobody listens', async () => {
    await expect(QmpClient.open(socketPath, 1000)).rejects.toMatchObject({ code: 'engine-dead' });
  });

  it('says that a daemon is dead that closes in the middle of a command', async () => {
    await serve((socket) => socket.destroy());
    await expect(connected((qmp) => qmp.quit())).rejects.toMatchObject({ code: 'engine-dead' });
  });

  it('says that a daemon does not answer that sends no greeting', async () => {
    await listen(() => {});
    await expect(QmpClient.open(socketPath, 50)).rejects.toMatchObject({ code: 'engine-unresponsive' });
  });

  it('says that a daemon does not answer that sends events but no reply', async () => {
    await serve((socket) => socket.write('{"event": "RESUME", "data": {}}\n'));
    // Not so soon for what comes before the command, which a busy machine takes longer for.
    const connection = await QmpConnection.open(socketPath, patientMs);
    const quit = connection.execute('quit', undefined, 50);
    await expect(quit).rejects.toMatchObject({ code: 'engine-unresponsive', message: expect.stringContaining('quit') });
  });

  it.each([
    ['what is no JSON', 'HTTP/1.1 400 Bad Request\r\n'],
    ['JSON that is no message', '{"hello": "world"}\n'],
    ['a reply to a command never sent', '{"return": {}, "id": 4711}\n'],
    ['a number', '42\n'],
  ])('refuses %s', async (_, line) => {
    await serve((socket) => socket.write(line));
    await expect(connected((qmp) => qmp.quit())).rejects.toMatchObject({ code: 'qmp-failed' });
  });

  it('refuses a reply of another shape, and names the command', async () => {
    await serve((socket, { id }) => socket.write(`${JSON.stringify({ return: [{ id: 7 }], id })}\n`));
    const query = connected((qmp) => qmp.queryBlockExports());
    await expect(query).rejects.toMatchObject({
      code: 'qmp-failed',
      message: expect.stringMatching('query-block-exports'),
    });
  });

  it('fails every command after the first failure, without waiting', async () => {
    await serve((socket) => socket.write('garbage\n'));
    await connected(async (qmp) => {
      await expect(qmp.quit()).rejects.toMatchObject({ code: 'qmp-failed' });
      await expect(qmp.quit()).rejects.toMatchObject({ code: 'qmp-failed' });
    }, 60_000);
  });
});
