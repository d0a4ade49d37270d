import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseAllDocuments, stringify } from 'yaml';

export const chartDirectory = path.resolve(import.meta.dirname, '../charts/lamina');

/** One object that the chart makes. */
export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  // oxlint-disable-next-line typescript/no-explicit-any -- whatever Kubernetes has
  [member: string]: any;
}

export interface Rendering {
  /** Empty where it was refused. */
  manifests: Manifest[];
  /** What helm said where it refused; empty where it did not. */
  refusal: string;
}

/** Why helm cannot be used here; undefined where it can. */
export async function helmMissing(): Promise<string | undefined> {
  const { error } = await helm(['version']);
  return error ? `helm is needed: ${error.message}` : undefined;
}

/** What `helm template` makes of the chart with values in the form of values.yaml. */
export async function renderChart(values: object = {}, ...args: string[]): Promise<Rendering> {
  const directory = await mkdtemp(path.join(tmpdir(), 'lamina-values-'));
  try {
    const file = path.join(directory, 'values.yaml');
    await writeFile(file, stringify(values, { version: '1.1' }));
    const command = ['template', 'lamina', chartDirectory, '--namespace', 'lamina-system', '--values', file, ...args];
    const { error, stdout, stderr } = await helm(command);
    if (error) return { manifests: [], refusal: stderr };
    return { manifests: parseAllDocuments(stdout).map((document) => document.toJS() as Manifest), refusal: '' };
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** What `helm lint` says. */
export async function lintChart(): Promise<string> {
  const { stdout, stderr } = await helm(['lint', '--strict', chartDirectory]);
  return stdout + stderr;
}

function helm(args: string[]): Promise<{ error: Error | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile('helm', args, { maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) =>
      resolve({ error, stdout, stderr }),
    );
  });
}
