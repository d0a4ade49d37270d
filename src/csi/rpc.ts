import {
  type sendUnaryData,
  type ServerUnaryCall,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { identifiersOf } from './identifiers.ts';
import { type RpcStatus, statusNameOf, statusOf } from './status-codes.ts';

/** The RPCs of a service as plain functions; one that is missing answers UNIMPLEMENTED. */
export type RpcMethods<Service> = {
  [Method in keyof Service]?: Service[Method] extends {
    requestDeserialize: (bytes: Buffer) => infer Request;
    responseDeserialize: (bytes: Buffer) => infer Response;
  }
    ? (request: Request) => Promise<Response>
    : never;
};

export interface FinishedCall {
  /** `CreateVolume`, … */
  rpc: string;
  /** `OK`, `NOT_FOUND`, … */
  code: string;
  durationMs: number;
}

/** What surrounds every RPC. */
export interface RpcHost {
  logger: Logger;
  onCall: (call: FinishedCall) => void;
  /** Operations that run at this moment, those whose client is gone included. */
  running: Set<Promise<void>>;
}

type AnyMethod = (request: unknown) => Promise<unknown>;
type AnyCall = ServerUnaryCall<unknown, unknown>;

/**
 * Wraps each of `methods` for the server: errors become statuses, and every call is logged and counted once. A call
 * whose client has gone runs to its end, since a half-done operation helps nobody; a retry finds its result.
 */
export function implement<Service extends ServiceDefinition>(
  service: Service,
  methods: RpcMethods<Service>,
  host: RpcHost,
): UntypedServiceImplementation {
  const implementation: UntypedServiceImplementation = {};
  for (const [name, method] of Object.entries(methods)) {
    const rpc = service[name]?.path.split('/').at(-1) ?? name;
    implementation[name] = (call: AnyCall, callback: sendUnaryData<unknown>) => {
      const work = answer(run(rpc, method as AnyMethod, call, host), callback);
      host.running.add(work);
      void work.finally(() => host.running.delete(work));
    };
  }
  return implementation;
}

type Outcome = { failure: RpcStatus; response?: never } | { failure?: never; response: unknown };

async function run(rpc: string, method: AnyMethod, call: AnyCall, host: RpcHost): Promise<Outcome> {
  const start = performance.now();
  const finish = (code: status, error?: unknown) => {
    const finished = { rpc, code: statusNameOf(code), durationMs: Math.round(performance.now() - start) };
    host.onCall(finished);
    logCall(host.logger, { ...finished, ...identifiersOf(call.request), clientGone: call.cancelled }, error);
  };
  try {
    const response = await method(call.request);
    finish(status.OK);
    return { response };
  } catch (error) {
    const failure = statusOf(error);
    finish(failure.code, error);
    return { failure };
  }
}

async function answer(outcome: Promise<Outcome>, callback: sendUnaryData<unknown>): Promise<void> {
  const { failure, response } = await outcome;
  if (failure) callback(failure);
  else callback(null, response);
}

const readingRpc = /^(Controller|Node)?(Get|List|Probe|Validate)/;
/** What the caller is expected to get over by itself. */
const ordinaryCodes = ['ABORTED', 'NOT_FOUND'];

function logCall(logger: Logger, call: FinishedCall & { clientGone: boolean }, error: unknown): void {
  const { clientGone, ...rest } = call;
  const fields = clientGone ? { ...rest, clientGone } : rest;
  if (call.code === 'OK') logger[readingRpc.test(call.rpc) ? 'debug' : 'info'](fields, 'call');
  // Unforeseen, so with its stack.
  else if (call.code === 'INTERNAL') logger.error({ ...fields, error }, 'call failed');
  else
    logger[ordinaryCodes.includes(call.code) ? 'info' : 'warn']({ ...fields, reason: messageOf(error) }, 'call failed');
}
