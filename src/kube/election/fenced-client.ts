import type { KubeClient } from '../client/client.ts';
import type { Leadership } from './leadership.ts';

/**
 * A client for the elected one alone: no request is sent once another might be elected, and those that are under way
 * end when the leadership does.
 *
 * @throws also `leadership-lost`
 */
export function fencedClient(client: KubeClient, leadership: Leadership): KubeClient {
  return {
    request: async (request) => {
      leadership.assertHeld();
      return client.request({ ...request, signal: either(request.signal, leadership.signal) });
    },
    open: async (request) => {
      leadership.assertHeld();
      return client.open({ ...request, signal: either(request.signal, leadership.signal) });
    },
  };
}

function either(own: AbortSignal | undefined, leaderships: AbortSignal): AbortSignal {
  // Mostly it is the same one; signals that are made of one that lives long cost memory as long as that lives.
  return own && own !== leaderships ? AbortSignal.any([own, leaderships]) : leaderships;
}
