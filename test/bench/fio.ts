import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { z } from 'zod';
import { run } from '../../src/lib/exec.ts';

export type Pattern = 'randread' | 'randwrite' | 'read' | 'write' | 'randrw';

export interface FioJob {
  /** A block device, or a file. */
  file: string;
  pattern: Pattern;
  blockBytes: number;
  queueDepth: number;
  sizeBytes: number;
  /** Measured time; without it the job ends when it has done `ioBytes`, or `sizeBytes` once. */
  seconds?: number;
  ioBytes?: number;
  /** Other random places for each seed. */
  seed?: number;
}

/** What is kept of a fio run. */
export interface FioResult {
  iops: number;
  bytesPerSecond: number;
  /** errno of the first failed I/O; 0 where none failed. */
  error: number;
}

const direction = z.object({ iops: z.number(), bw_bytes: z.number() });
const report = z.object({
  jobs: z.tuple([z.object({ error: z.number(), read: direction, write: direction })]),
});

/** @param output what fio prints with --output-format=json, which may begin with warnings. @throws where it is no such report */
export function parseFio(output: string): FioResult {
  const start = output.indexOf('{');
  if (start < 0) throw new Error(`fio printed no report: ${output.slice(0, 500)}`);
  const [{ error, read, write }] = report.parse(JSON.parse(output.slice(start))).jobs;
  return { error, iops: read.iops + write.iops, bytesPerSecond: read.bw_bytes + write.bw_bytes };
}

/** Runs a job to its end. @throws where fio fails or an I/O does */
export async function fio(job: FioJob): Promise<FioResult> {
  const { stdout } = await run('fio', fioArguments(job), { timeoutMs: ((job.seconds ?? 0) + 600) * 1000 });
  const result = parseFio(stdout);
  if (result.error !== 0) throw new Error(`fio ${job.pattern} on ${job.file}: I/O error ${result.error}`);
  return result;
}

/** A job that goes on until it is told to end. */
export interface Load {
  /** Whether fio is still at it. */
  isRunning(): boolean;
  end(): Promise<FioResult>;
}

export function startLoad(job: FioJob): Load {
  // It ends with this process, however that ends.
  const command = ['--pdeathsig', 'KILL', '--', 'fio', ...fioArguments({ ...job, seconds: 3600 })];
  const child = spawn('setpriv', command, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const ended = once(child, 'close');
  return {
    isRunning: () => child.exitCode === null && child.signalCode === null,
    async end() {
      // fio writes its report when it is interrupted.
      child.kill('SIGINT');
      await ended;
      return parseFio(output);
    },
  };
}

function fioArguments(job: FioJob): string[] {
  const options = {
    name: job.pattern,
    filename: job.file,
    rw: job.pattern,
    bs: job.blockBytes,
    iodepth: job.queueDepth,
    size: job.sizeBytes,
    ioengine: 'libaio',
    direct: 1,
    'output-format': 'json',
    ...(job.seconds === undefined ? {} : { time_based: 1, runtime: job.seconds, ramp_time: 0.5 }),
    ...(job.ioBytes === undefined ? {} : { io_size: job.ioBytes }),
    ...(job.seed === undefined ? {} : { randseed: job.seed }),
  };
  return Object.entries(options).map(([name, value]) => `--${name}=${value}`);
}
