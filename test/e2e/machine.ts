import { existsSync } from 'node:fs';
import path from 'node:path';
import { execaSync } from 'execa';

export const root = path.resolve(import.meta.dirname, '../..');

/** How the stories are told on this machine. Each is a variable of the environment. */
export interface Machine {
  /** LAMINA_E2E_CLUSTER: what the cluster is called. One that is there is used and kept. */
  clusterName: string;
  /** LAMINA_KIND_IMAGE: the image of the nodes; kind's own where it is not given. */
  nodeImage: string | undefined;
  /** LAMINA_SNAPSHOT_CRDS: a file or directory with the definitions of the snapshot API; fetched where it is not given. */
  snapshotDefinitions: readonly string[];
}

const programs = ['docker', 'kind', 'kubectl', 'helm'];

/** Where a program is: in one of the directories, or in PATH. */
export function findProgram(
  name: string,
  directories: readonly string[],
  environment: NodeJS.ProcessEnv = process.env,
): string | undefined {
  const places = [...directories, ...(environment['PATH'] ?? '').split(':')];
  return places.map((place) => path.join(place, name)).find((file) => existsSync(file));
}

/** What the stories need of this machine, or in one sentence what is missing. */
export function findMachine(environment: NodeJS.ProcessEnv = process.env): Machine | { missing: string } {
  const lacking = programs.filter((name) => findProgram(name, [], environment) === undefined);
  if (lacking.length > 0) return { missing: `a cluster of kind needs ${lacking.join(', ')}` };
  if (execaSync('docker', ['info'], { reject: false }).exitCode !== 0) {
    return { missing: 'a cluster of kind needs a container engine that runs: docker info fails' };
  }
  const definitions = environment['LAMINA_SNAPSHOT_CRDS'];
  return {
    clusterName: environment['LAMINA_E2E_CLUSTER'] || 'lamina-e2e',
    nodeImage: environment['LAMINA_KIND_IMAGE'] || undefined,
    snapshotDefinitions: definitions ? ['-f', definitions] : ['-k', published],
  };
}

const published = 'https://github.com/kubernetes-csi/external-snapshotter/client/config/crd?ref=v8.7.0';
