import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { daemonIdOf, runDirectory } from '../../src/engine/supervisor/run-directory.ts';
import { maxRequestBytes } from '../../src/engine/supervisor/supervisor-protocol.ts';
import { EngineBench } from '../engine-bench.ts';

let bench: EngineBench;
beforeEach(async () => {
  bench = new EngineBench();
  await bench.ensureSupervisor();
});
afterEach(() => bench.close());

/** Sends bytes as they are, and reads until the supervisor hangs up. */
async function send(bytes: string): Promise<unknown> {
  const socket = connect({ path: runDirectory(bench.runDir).socket, allowHalfOpen: true });
  let answer = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    answer += text;
  });
  socket.on('error', () => {});
  socket.end(bytes);
  await once(socket, 'close');
  return JSON.parse(answer);
}

const command = (value: object) => send(`${JSON.stringify(value)}\n`);
const refusal = { error: { code: 'invalid-parameter', message: expect.any(String) } };

describe('the supervisor', () => {
  it('answers a command with one line', async () => {
    expect(await command({ do: 'list' })).toEqual({ result: [] });
  });

  it('has nothing to stop where there is no daemon', async () => {
    expect(await command({ do: 'stop', id: daemonIdOf('disk') })).toEqual({ result: null });
  });

  it.each([
    ['no JSON', 'GET / HTTP/1.1\r\n\r\n'],
    ['half a command', '{"do": "list"'],
    ['an unknown command', '{"do": "format"}\n'],
    ['an id that leads out of its directory', '{"do": "stop", "id": "../../../etc"}\n'],
    ['a member it does not know', '{"do": "list", "also": 1}\n'],
    ['a start without arguments', `{"do": "start", "id": "${daemonIdOf('d')}", "request": {"diskId": "d"}}\n`],
    ['more than it reads', 'x'.repeat(maxRequestBytes + 1)],
  ])('refuses %s, and serves on', async (_, bytes) => {
    expect(await send(bytes)).toEqual(refusal);
    expect(await command({ do: 'list' })).toEqual({ result: [] });
  });

  it("refuses a daemon under another disk's id", async () => {
    const request = { diskId: 'disk', arguments: [], labels: {} };
    expect(await command({ do: 'start', id: daemonIdOf('other'), request })).toEqual(refusal);
  });

  it('gives two callers of the same start the same daemon', async () => {
    const client = await bench.ensureSupervisor();
    const request = { diskId: 'disk', arguments: [], labels: { by: 'fuse' } };
    const [first, second] = await Promise.all([client.startDaemon(request), client.startDaemon(request)]);
    expect(second).toEqual(first);
    await Promise.all([client.stopDaemon('disk'), client.stopDaemon('disk')]);
    expect(await client.listDaemons()).toEqual([]);
  });
});
