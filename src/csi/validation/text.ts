import path from 'node:path';
import { LaminaError } from '../../lib/errors.ts';

/** The CSI specification's limit for every string that is not a path. */
export const maxTextBytes = 128;
const maxPathBytes = 4096;

/** The control characters that the specification bans from names: all but tab, line feed and carriage return. */
// oxlint-disable-next-line no-control-regex
const bannedCharacters = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/;

/** @throws LaminaError `invalid-parameter` where `value` is empty, too long or holds control characters */
export function requireName(field: string, value: string): string {
  if (bannedCharacters.test(value)) throw invalid(`${field} holds a control character; leave it out`);
  return requireId(field, value);
}

/** @throws LaminaError `invalid-parameter` where `value` is empty or longer than `maxBytes` */
export function requireId(field: string, value: string, maxBytes = maxTextBytes): string {
  if (value === '') throw invalid(`${field} is required and was not given`);
  const bytes = Buffer.byteLength(value);
  if (bytes > maxBytes) throw invalid(`${field} has ${bytes} bytes; ${maxBytes} are the most`);
  return value;
}

/** @throws LaminaError `invalid-parameter` where `value` is no absolute path */
export function requirePath(field: string, value: string): string {
  const given = requireAnyPath(field, value);
  if (!path.isAbsolute(given)) throw invalid(`${field} is '${given}'; an absolute path is required`);
  return given;
}

/** Like requirePath, for a path where something is looked up: at a relative one there is nothing. @throws also `path-not-found` */
export function requireExistingPath(field: string, value: string): string {
  const given = requireAnyPath(field, value);
  if (!path.isAbsolute(given))
    throw new LaminaError('path-not-found', `${field} is '${given}'; no volume is at a relative path`);
  return given;
}

function requireAnyPath(field: string, value: string): string {
  if (value === '') throw invalid(`${field} is required and was not given`);
  if (value.includes('\0')) throw invalid(`${field} holds a NUL character`);
  if (Buffer.byteLength(value) > maxPathBytes) throw invalid(`${field} is longer than ${maxPathBytes} bytes`);
  return value;
}

export function invalid(message: string): LaminaError {
  return new LaminaError('invalid-parameter', message);
}
