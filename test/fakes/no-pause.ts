import type { WritePause } from '../../src/engine/staging/staging-port.ts';

/** Writes never wait. */
export const noPause: WritePause & { readonly count: number } = {
  count: 0,
  has: () => false,
  whileNotPaused: (_, work) => work(),
};
