import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type ServiceError, status } from '@grpc/grpc-js';
import type { FinishedCall } from '../../src/csi/rpc.ts';
import { type CsiServer, startCsiServer } from '../../src/csi/server.ts';
import { CsiClient } from '../csi-client.ts';
import { FakeDiskService } from './disk-service.ts';
import { MemoryLogger } from './memory-logger.ts';
import { FakeNodeService } from './node-service.ts';

/** A CSI server on a real socket over fakes, and a client of it. */
export interface FakeCsi extends AsyncDisposable {
  readonly directory: string;
  readonly disks: FakeDiskService;
  readonly node: FakeNodeService;
  readonly logger: MemoryLogger;
  readonly calls: FinishedCall[];
  readonly server: CsiServer;
  readonly client: CsiClient;
}

export async function startFakeCsi(options: { ready?: () => Promise<boolean> } = {}): Promise<FakeCsi> {
  const directory = await mkdtemp(path.join(tmpdir(), 'lamina-csi-'));
  const disks = new FakeDiskService();
  const node = new FakeNodeService(disks);
  const logger = new MemoryLogger();
  const calls: FinishedCall[] = [];
  const server = await startCsiServer({
    endpoint: `unix://${directory}/csi.sock`,
    identity: { version: '1.2.3', ready: options.ready ?? (async () => true) },
    controller: { disks },
    node: { node },
    logger,
    onCall: (call) => calls.push(call),
  });
  const client = new CsiClient(server.socketPath);
  return {
    directory,
    disks,
    node,
    logger,
    calls,
    server,
    client,
    [Symbol.asyncDispose]: async () => {
      client.close();
      await server.stop(1000);
      await rm(directory, { recursive: true });
    },
  };
}

/** `NOT_FOUND: [disk-not-found] …` of a call that must fail. */
export async function failureOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => undefined,
    (reason: ServiceError) => reason,
  );
  if (!error) throw new Error('the call succeeded, and should not');
  return `${status[error.code]}: ${error.details}`;
}
