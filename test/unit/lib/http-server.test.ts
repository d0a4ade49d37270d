import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { close, listen } from '../../../src/lib/http-server.ts';

const server = createServer((_, response) => response.end('here'));
afterEach(() => close(server));

it.each(['[::1]', '127.0.0.1'])('a server that listens everywhere answers at %s', async (host) => {
  await listen(server, { host: '::', port: 0 });
  const { port } = server.address() as AddressInfo;
  expect(await (await fetch(`http://${host}:${port}/`)).text()).toBe('here');
});
