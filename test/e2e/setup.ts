import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { systemNamespace } from '../cluster/objects.ts';
import { applySnapshotDefinitions, helm, loadImages, untilServing } from './installation.ts';
import { KindCluster } from './kind-cluster.ts';
import { Kubectl } from './kubectl.ts';
import { findMachine } from './machine.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Where the stories are told; null where they cannot be. */
    kind: { name: string; kubeconfig: string } | null;
  }
}

let directory: string | undefined;
let made: KindCluster | undefined;

/** Makes the cluster that all stories share, and installs what is tested by the chart as it is shipped. */
export async function setup(project: TestProject): Promise<void> {
  const machine = findMachine();
  if ('missing' in machine) {
    project.provide('kind', null);
    return;
  }
  directory = mkdtempSync(path.join(tmpdir(), 'lamina-e2e-'));
  const cluster = new KindCluster(machine.clusterName, path.join(directory, 'kubeconfig'));
  const say = stopwatch();
  if (await cluster.create(machine)) made = cluster;
  say('the cluster is there');
  await loadImages(cluster);
  say('the images are on its nodes');
  const kubectl = new Kubectl(cluster.kubeconfig, 'default');
  await applySnapshotDefinitions(kubectl, machine);
  const isInstalled = await kubectl.in(systemNamespace).get('deployment', 'lamina-controller');
  await helm(kubectl, isInstalled ? 'upgrade' : 'install', { args: isInstalled ? [] : ['--create-namespace'] });
  await untilServing(kubectl, cluster.workers);
  say('it is installed, and serves the pools of both workers');
  project.provide('kind', { name: cluster.name, kubeconfig: cluster.kubeconfig });
}

/** A cluster that was there before stays. */
export async function teardown(): Promise<void> {
  await made?.destroy();
  if (directory) rmSync(directory, { recursive: true, force: true });
}

function stopwatch(): (what: string) => void {
  const start = performance.now();
  return (what) => process.stdout.write(`e2e: ${what} (${Math.round((performance.now() - start) / 1000)} s)\n`);
}
