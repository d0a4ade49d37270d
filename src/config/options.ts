import { Option } from 'commander';
import { factor, fraction, secondsOrNone } from './values.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** How much of the file system a pool may use and promise. */
export interface SpaceConfig {
  reservedFraction: number;
  criticalFraction: number;
  overcommit: number;
  /** How long writes to mounted disks wait at most where a pool is nearly full; 0 for not at all. */
  longestPauseSeconds: number;
}

export const logLevel = () =>
  new Option('--log-level <level>', 'what is logged to standard error')
    .choices(['debug', 'info', 'warn', 'error'])
    .default('info');

export const runDir = (what: string) => new Option('--run-dir <dir>', what).default('/run/lamina');

export const reservedOption = () =>
  new Option('--reserved <fraction>', "part of the file system that is never used, such as 0.05 or '5%'")
    .argParser(fraction)
    .default(0);

export const criticalOption = () =>
  new Option('--critical <fraction>', 'free part below which nothing new starts').argParser(fraction).default(0.02);

export const longestPauseOption = () =>
  new Option(
    '--longest-pause <seconds>',
    'how long writes to mounted disks wait for room where the pool is nearly full, before they may fail; 0 for not at all',
  )
    .argParser(secondsOrNone)
    .default(600);

export const overcommitOption = () =>
  new Option(
    '--overcommit <factor>',
    'how much may be promised: sum of the sizes of all disks / size of the file system',
  )
    .argParser(factor)
    .default(2);

export const metricsListenOption = () =>
  new Option(
    '--metrics-listen <address>',
    'where /metrics, /healthz and /readyz are served: a unix socket, or HOST:PORT (by HTTPS where others can reach it)',
  );
