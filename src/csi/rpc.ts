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
import { statusNameOf, statusOf } from './status-codes.ts';

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
      const work = answer(rpc, method as AnyMethod, call, callback, host);
      host.running.add(work);
      void work.finally(() => host.running.delete(work));
    };
  }
  return implementation;
}

async function answer(
  rpc: string,
  method: AnyMethod,
  call: AnyCall,
  callback: sendUnaryData<unknown>,
  host: RpcHost,
): Promise<void> {
  const start = performance.now();
  let failure: { error: unknown } | undefined;
  let response: unknown;
  try {
    response = await method(call.request);
  } catch (error) {
    failure = { error };
  }
  const outcome = failure ? statusOf(failure.error) : { code: status.OK, details: '' };
  const finished = { rpc, code: statusNameOf(outcome.code), durationMs: Math.round(performance.now() - start) };
  host.onCall(finished);
  logCall(host.logger, { ...finished, ...identifiersOf(call.request), clientGone: call.cancelled }, failure);
  if (failure) callback(outcome);
  else callback(null, response);
}

const readingRpc = /^(Controller|Node)?(Get|List|Probe|Validate)/;
/** What the caller is expected to get over by itself. */
const ordinaryCodes = ['OK', 'ABORTED', 'NOT_FOUND'];

function logCall(logger: Logger, call: FinishedCall & { clientGone: boolean }, failure?: { error: unknown }): void {
  const { clientGone, ...rest } = call;
  const fields = clientGone ? { ...rest, clientGone } : rest;
  if (!failure) {
    logger[readingRpc.test(call.rpc) ? 'debug' : 'info'](fields, 'call');
  } else if (call.code === 'INTERNAL') {
    logger.error({ ...fields, error: failure.error }, 'call failed');
  } else {
    logger[ordinaryCodes.includes(call.code) ? 'info' : 'warn']({ ...fields, reason: messageOf(failure.error) }, 'call failed');
  }
}
