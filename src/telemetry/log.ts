import { type DestinationStream, destination, pino, stdSerializers, stdTimeFunctions } from 'pino';
import type { Logger } from '../lib/logger.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

/**
 * A logger that writes JSON lines, each at once, so that nothing is lost when the process is killed. A field `error` is
 * written with its stack and code.
 *
 * @param output where to; standard error unless given
 */
export function createLogger(level: LogLevel, output: DestinationStream = destination({ fd: 2, sync: true })): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: stdSerializers.err },
      // Nobody passes these on purpose; a request logged whole by mistake must not show them.
      redact: ['secrets', '*.secrets', 'mountFlags', '*.mountFlags'],
    },
    output,
  );
}
