import { readFile } from 'node:fs/promises';
import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { statusCodeOf, statusNameOf, statusOf, unexpectedCode } from '../../../src/csi/status-codes.ts';
import { type ErrorCode, errorKinds, LaminaError } from '../../../src/lib/errors.ts';

const codes = Object.keys(errorKinds) as ErrorCode[];

describe('statusOf', () => {
  it('puts the stable code in front of the message', () => {
    expect(statusOf(new LaminaError('disk-not-found', 'there is no disk x'))).toEqual({
      code: status.NOT_FOUND,
      details: '[disk-not-found] there is no disk x',
    });
  });

  it('calls what nobody expected INTERNAL', () => {
    expect(statusOf(new TypeError('x is not a function'))).toEqual({
      code: status.INTERNAL,
      details: '[unexpected] x is not a function',
    });
  });

  it('cuts a message that no header would hold', () => {
    expect(statusOf(new Error('long '.repeat(10_000))).details.length).toBeLessThan(4100);
  });

  it.each([
    ['busy', 'ABORTED'],
    ['timeout', 'UNAVAILABLE'],
    ['engine-unresponsive', 'UNAVAILABLE'],
    ['pool-full', 'RESOURCE_EXHAUSTED'],
    ['topology-unsatisfiable', 'RESOURCE_EXHAUSTED'],
    ['list-token-invalid', 'ABORTED'],
    ['name-taken', 'ALREADY_EXISTS'],
    ['record-corrupt', 'INTERNAL'],
  ] as const)('answers %s with %s', (code, name) => {
    expect(statusNameOf(statusCodeOf(code))).toBe(name);
  });
});

describe('docs/users/errors.md', () => {
  it('lists every code with the gRPC code it is answered with, and no other', async () => {
    const documented = await documentedCodes();
    const expected = codes.map((code) => [code, statusNameOf(statusCodeOf(code))]);
    expect(documented).toEqual(Object.fromEntries([...expected, [unexpectedCode, 'INTERNAL']]));
  });

  it('says for every code what it means and what to do', async () => {
    const incomplete = (await documentedRows()).filter(
      ([, , meaning = '', action = '']) => !isSentence(meaning) || !isSentence(action),
    );
    expect(incomplete).toEqual([]);
  });
});

function isSentence(text: string): boolean {
  return /\w{2}.*\.$/.test(text);
}

/** Cells of the table rows that begin with a code. */
async function documentedRows(): Promise<string[][]> {
  const text = await readFile(new URL('../../../docs/users/errors.md', import.meta.url), 'utf8');
  return [...text.matchAll(/^\| `[a-z-]+` \|.*\|$/gm)].map(([row]) =>
    row
      .slice(1, -1)
      .split(' | ')
      .map((cell) => cell.trim()),
  );
}

async function documentedCodes(): Promise<Record<string, string>> {
  const rows = await documentedRows();
  const documented = Object.fromEntries(rows.map(([code = '', grpc = '']) => [code.replaceAll('`', ''), grpc]));
  expect(Object.keys(documented)).toHaveLength(rows.length);
  return documented;
}
