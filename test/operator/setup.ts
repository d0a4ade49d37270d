import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { Cluster } from '../cluster/cluster.ts';
import { controlPlanePorts } from '../cluster/control-plane.ts';
import { findTestbed } from '../cluster/testbed.ts';
import { freePort } from '../free-port.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Where the cluster of the stories is, or will be once the first of them starts it; null where it cannot be. */
    cluster: { directory: string; port: number } | null;
  }
}

/** Sockets are below it, whose paths must be short. */
const base = '/tmp';
const prefix = 'lamina-op-';
const logs = path.resolve(import.meta.dirname, '../../build/operator-logs');

let ours: { directory: string; port: number } | null = null;

/** The stories share one cluster; it is started by the first file that needs it. */
export async function setup(project: TestProject): Promise<void> {
  const testbed = findTestbed();
  if (!('missing' in testbed)) {
    for (const directory of abandoned()) await Cluster.destroy({ testbed, directory, port: 0 });
    ours = {
      directory: mkdtempSync(path.join(base, `${prefix}${process.pid}-`)),
      port: await freePort(controlPlanePorts),
    };
  }
  project.provide('cluster', ours);
}

/** Keeps the logs of everything, and ends it. */
export async function teardown(): Promise<void> {
  const testbed = findTestbed();
  if (ours === null || 'missing' in testbed) return;
  rmSync(logs, { recursive: true, force: true });
  mkdirSync(logs, { recursive: true });
  for (const kept of ['logs', 'control-plane/cp']) {
    const directory = path.join(ours.directory, kept);
    if (!existsSync(directory)) continue;
    for (const name of readdirSync(directory)) {
      if (name.endsWith('.log')) cpSync(path.join(directory, name), path.join(logs, name));
    }
  }
  await Cluster.destroy({ testbed, ...ours });
}

/** What runs that were killed have left. */
function abandoned(): string[] {
  const names = readdirSync(base).filter((name) => name.startsWith(prefix));
  const pids = names.map((name) => Number(name.slice(prefix.length).split('-')[0]));
  return names.filter((_, index) => !existsSync(`/proc/${pids[index]}`)).map((name) => path.join(base, name));
}
