import { LaminaError } from '../lib/errors.ts';
import { socketPathOf } from '../lib/unix-socket.ts';

/** Where to listen: at a socket of this user's, on the loopback interface, or where other machines can ask, too. */
export type ListenAddress = { kind: 'socket'; path: string } | PortAddress<'loopback'> | PortAddress<'network'>;

export interface PortAddress<Kind> {
  kind: Kind;
  host: string;
  port: number;
}

/**
 * Reads `unix:///run/x.sock`, `/run/x.sock`, `127.0.0.1:9090`, `[::]:9090`, `metrics.example:9090`; 0 is any port.
 *
 * @throws LaminaError `invalid-parameter` for anything else
 */
export function parseListenAddress(text: string): ListenAddress {
  if (text.startsWith('/') || text.startsWith('unix:')) return { kind: 'socket', path: socketPathOf(text) };
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (!host || port > 65_535) {
    throw new LaminaError(
      'invalid-parameter',
      `'${text}' is nothing to listen on; give HOST:PORT, such as 127.0.0.1:9090 or [::]:9090, or the path of a unix socket`,
    );
  }
  return { kind: isLoopback(host) ? 'loopback' : 'network', host, port };
}

/**
 * Reads HOST:PORT, of what is no socket.
 *
 * @param what names it in the error
 * @throws LaminaError `invalid-parameter`
 */
export function parsePortAddress(text: string, what = text): PortAddress<'loopback' | 'network'> {
  const address = parseListenAddress(text);
  if (address.kind === 'socket') throw new LaminaError('invalid-parameter', `${what} is no HOST:PORT`);
  return address;
}

function isLoopback(host: string): boolean {
  return host === '::1' || host === 'localhost' || /^127\.\d+\.\d+\.\d+$/.test(host);
}
