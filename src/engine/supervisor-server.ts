import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isLaminaError, LaminaError, messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { DaemonTable } from './daemon-table.ts';
import { daemonIdPattern } from './run-directory.ts';
import { maxRequestBytes, startRequestSchema } from './supervisor-protocol.ts';

/** Serves the supervisor's protocol; the caller makes it listen. */
export function createSupervisorServer(table: DaemonTable, logger: Logger): Server {
  const server = createServer((request, response) => {
    answer(table, request).then(
      (body) => reply(response, body === undefined ? 204 : 200, body),
      (error: unknown) => {
        if (!isLaminaError(error)) logger.error({ error, url: request.url }, 'request to the supervisor failed');
        const code = isLaminaError(error) ? error.code : 'engine-unavailable';
        reply(response, statusOf(error), { code, message: messageOf(error) });
      },
    );
  });
  server.headersTimeout = 10_000;
  server.requestTimeout = 10_000;
  return server;
}

/** @returns the body of the answer; undefined for an empty one. */
async function answer(table: DaemonTable, request: IncomingMessage): Promise<object | undefined> {
  const [, collection, id, ...rest] = (request.url ?? '').split('/');
  if (collection !== 'daemons' || rest.length > 0) throw noSuchRequest(request);
  if (request.method === 'GET' && id === undefined) return { daemons: await table.list() };
  if (id === undefined || !daemonIdPattern.test(id)) throw noSuchRequest(request);
  if (request.method === 'DELETE') {
    await table.stop(id);
    return undefined;
  }
  if (request.method !== 'PUT') throw noSuchRequest(request);
  const parsed = startRequestSchema.safeParse(JSON.parse(await readBody(request)));
  if (!parsed.success) throw new LaminaError('invalid-parameter', `not a request to start a daemon: ${parsed.error.message}`);
  return table.start(id, parsed.data);
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxRequestBytes) throw new LaminaError('invalid-parameter', `a request of more than ${maxRequestBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function noSuchRequest(request: IncomingMessage): LaminaError {
  return new LaminaError('unsupported', `the supervisor knows no ${request.method} ${request.url}`);
}

function statusOf(error: unknown): number {
  if (error instanceof SyntaxError) return 400;
  if (!isLaminaError(error)) return 500;
  if (error.kind === 'invalid') return 400;
  return error.kind === 'unsupported' ? 404 : 503;
}

function reply(response: ServerResponse, status: number, body: object | undefined): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(body === undefined ? '' : JSON.stringify(body));
}
