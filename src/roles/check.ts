import type { CheckConfig } from '../config/pool-commands.ts';
import { type CheckReport, checkPool, exitCode, repairPool } from '../store/check.ts';
import { createLogger } from '../telemetry/log.ts';

/** `lamina check`: exit codes as `lamina check --help` lists them. */
export async function check({ pool, repair, json }: CheckConfig): Promise<number> {
  const progress = (file: string) => process.stderr.isTTY && process.stderr.write(`checking ${file}\n`);
  const report = repair ? await repairPool(pool, createLogger('warn'), progress) : await checkPool(pool, progress);
  process.stdout.write(`${json ? JSON.stringify(report, null, 2) : format(report)}\n`);
  return exitCode(report);
}

function format(report: CheckReport): string {
  const { pool, served, layers, disks, snapshots, images, problems, leftovers, incoming, foreign, repaired } = report;
  const lines = [
    `pool ${pool}: ${disks} disks, ${snapshots} snapshots, ${images} images, ${layers} layers${served ? ', being served' : ''}`,
  ];
  lines.push(...repaired.map((what) => `repaired: ${what}`));
  lines.push(...leftovers.map((what) => `${served ? 'in progress' : 'left over'}: ${what}`));
  lines.push(...incoming.map((name) => `unfinished download, kept: incoming/${name}`));
  lines.push(...foreign.map((file) => `none of Lamina's, left alone: ${file}`));
  lines.push(...problems.map(({ code, message }) => `problem [${code}]: ${message}`));
  if (problems.length > 0) lines.push(`${problems.length} problems`);
  else if (leftovers.length > 0 && !served)
    lines.push("left over from an interruption: the next start clears it up, or 'lamina check --repair' now");
  else lines.push('clean');
  return lines.join('\n');
}
