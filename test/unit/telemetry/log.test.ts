import { describe, expect, it } from 'vitest';
import { LaminaError } from '../../../src/lib/errors.ts';
import { createLogger, type LogLevel } from '../../../src/telemetry/log.ts';

function capture(level: LogLevel) {
  const lines: string[] = [];
  return { logger: createLogger(level, { write: (line) => lines.push(line) }), lines };
}

describe('createLogger', () => {
  it('writes one JSON line with time, level, fields and message', () => {
    const { logger, lines } = capture('info');
    logger.info({ rpc: 'CreateVolume', durationMs: 12 }, 'call');
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? '')).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      rpc: 'CreateVolume',
      durationMs: 12,
      msg: 'call',
    });
  });

  it('leaves out what is below its level', () => {
    const { logger, lines } = capture('warn');
    logger.debug({}, 'a');
    logger.info({}, 'b');
    logger.warn({}, 'c');
    logger.error({}, 'd');
    expect(lines.map((line) => JSON.parse(line).msg)).toEqual(['c', 'd']);
  });

  it('writes an error with code, stack and what caused it', () => {
    const { logger, lines } = capture('info');
    const cause = new Error('connection refused');
    logger.error({ error: new LaminaError('engine-unavailable', 'no answer', { cause }) }, 'attach failed');
    const { error } = JSON.parse(lines[0] ?? '');
    expect(error).toMatchObject({ code: 'engine-unavailable', message: expect.stringContaining('no answer') });
    expect(error.stack).toContain('log.test.ts');
    expect(error.stack).toContain('connection refused');
  });

  it('does not write secrets of a request that is logged whole', () => {
    const { logger, lines } = capture('info');
    logger.info({ request: { name: 'pvc-1', secrets: { password: 'tops3cret' } } }, 'call');
    expect(lines[0]).toContain('pvc-1');
    expect(lines[0]).not.toContain('tops3cret');
  });
});
