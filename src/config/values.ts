import { isIPv6 } from 'node:net';
import { InvalidArgumentError } from 'commander';
import { MiB, parseBytes } from '../lib/bytes.ts';

export function fraction(text: string): number {
  const value = text.endsWith('%') ? Number(text.slice(0, -1)) / 100 : Number(text);
  // An empty text is no number, though JavaScript takes it for 0.
  if (!(/\d/.test(text) && value >= 0 && value < 1))
    throw new InvalidArgumentError('a fraction from 0 to below 1, or a percentage, is wanted.');
  return value;
}

export function factor(text: string): number {
  const value = Number(text);
  if (!(value >= 1 && value <= 1e6)) throw new InvalidArgumentError('a number of at least 1 is wanted.');
  return value;
}

export function seconds(text: string): number {
  return whole(text, 'a whole number of seconds is wanted.');
}

export function secondsOrNone(text: string): number {
  return text === '0' ? 0 : seconds(text);
}

export function positive(text: string): number {
  return whole(text, 'a whole number is wanted, of at least 1.');
}

export function rate(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === undefined || bytes < MiB) throw new InvalidArgumentError('a size is wanted, of at least 1Mi.');
  return bytes;
}

/** It is the value of a topology segment, so it must be one of a label. */
export function nodeName(text: string): string {
  if (/^(?=.{1,63}$)[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/.test(text)) return text;
  throw new InvalidArgumentError(
    'a name is wanted that can be the value of a label: at most 63 letters, digits, -, _ and ., the first and the last no sign.',
  );
}

/** HOST:PORT that others are told. Kubernetes tells a pod its IPv6 address without the brackets that belong around it there. */
export function toldAddress(text: string): string {
  const [, host = '', port] = /^(.*):(\d+)$/.exec(text) ?? [];
  return isIPv6(host) ? `[${host}]:${port}` : text;
}

function whole(text: string, complaint: string): number {
  const value = Number(text);
  if (!(Number.isInteger(value) && value > 0)) throw new InvalidArgumentError(complaint);
  return value;
}
