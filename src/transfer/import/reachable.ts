import { lookup as resolve } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { LaminaError } from '../../lib/errors.ts';
import { shownUrl } from './shown-url.ts';

/**
 * What answers nobody but the machine itself: its own services, and what clouds tell it of itself and its credentials.
 * Whoever may declare a DiskImage must not read it by way of a node.
 */
const own = new BlockList();
own.addSubnet('0.0.0.0', 8, 'ipv4');
own.addSubnet('127.0.0.0', 8, 'ipv4');
own.addSubnet('169.254.0.0', 16, 'ipv4');
own.addAddress('::', 'ipv6');
own.addAddress('::1', 'ipv6');
own.addSubnet('fe80::', 10, 'ipv6');
own.addAddress('fd00:ec2::254', 'ipv6');
own.addAddress('fd20:ce::254', 'ipv6');
// Azure, Alibaba Cloud, Oracle Cloud.
for (const address of ['168.63.129.16', '100.100.100.200', '192.0.0.192']) own.addAddress(address, 'ipv4');

export function isOwnAddress(address: string): boolean {
  return own.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}

/** @throws LaminaError `source-denied` for a URL whose host is such an address, by itself */
export function assertReachable(url: URL): void {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (isIP(host) !== 0 && isOwnAddress(host)) throw denied(shownUrl(url), host);
}

/** Resolves names as usual, but not to such addresses; what is connected to is what was looked at. */
export const lookupReachable: LookupFunction = (hostname, options, callback) => {
  resolve(hostname, options, (error, address, family) => {
    const addresses = typeof address === 'string' ? [address] : (address ?? []).map((each) => each.address);
    const forbidden = error ? undefined : addresses.find(isOwnAddress);
    if (forbidden === undefined) callback(error, address, family);
    else callback(denied(hostname, forbidden), '', 0);
  });
};

function denied(what: string, address: string): LaminaError {
  return new LaminaError(
    'source-denied',
    `${what} is at ${address}, which only the node itself can reach: serve the image at an address that others can reach, too`,
  );
}
