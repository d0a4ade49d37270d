import { networkInterfaces } from 'node:os';

/** An address of this machine that nodes may import from, as they may not from the loopback one. */
export const machineAddress = Object.values(networkInterfaces())
  .flatMap((each) => each ?? [])
  .find(({ family, internal, address }) => family === 'IPv4' && !internal && !address.startsWith('169.254.'))?.address;
