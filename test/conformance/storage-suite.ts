import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { findProgram } from '../e2e/machine.ts';
import { parseGinkgoReport, type SpecResults } from '../ginkgo-report.ts';

/** Programs of a Kubernetes release: https://kubernetes.io/releases/download/, kubernetes-test-linux-*.tar.gz */
export interface SuitePrograms {
  ginkgo: string;
  e2eTest: string;
}

/** A part of the suite that runs at once. Patterns are regular expressions over a spec's whole name. */
export interface Selection {
  name: string;
  focus: string;
  skip: string;
  /** How many specs run side by side. */
  processes: number;
  timeoutMinutes: number;
}

const suite = 'External.Storage';
const withoutSense = ['\\[Disruptive\\]', '\\[Feature:Windows\\]'];

/** What any change must pass: a quarter of an hour. */
export const quick: Selection = {
  name: 'quick',
  focus: suite,
  skip: [...withoutSense, '\\[Slow\\]', '\\[Serial\\]', '\\[Feature:'].join('|'),
  processes: 4,
  timeoutMinutes: 30,
};

/** A few minutes of `quick`: volumes are made, used, cloned, snapshotted and restored, with a file system and as blocks. */
export const smoke: Selection = {
  ...quick,
  name: 'smoke',
  focus: `${suite}.*\\[Testpattern: (Dynamic PV \\((default fs|xfs|block volmode)\\)|Dynamic Snapshot \\(delete policy\\))\\].*(provisioning|snapshottable|volumes|volumeMode)`,
  timeoutMinutes: 15,
};

/** All specs that may run beside others, and then the rest. */
export const everything: readonly Selection[] = [
  {
    name: 'parallel',
    focus: suite,
    skip: [...withoutSense, '\\[Serial\\]'].join('|'),
    processes: 4,
    timeoutMinutes: 90,
  },
  {
    name: 'serial',
    focus: `${suite}.*\\[Serial\\]`,
    skip: withoutSense.join('|'),
    processes: 1,
    timeoutMinutes: 60,
  },
];

/** ext4 grows in use only for CAP_SYS_RESOURCE, which some sandboxes take from their root, and so from all nodes of kind. */
export const growsInUse =
  '\\(default fs\\).*(edited while pod is using it|expansion of pvcs created for ephemeral pvcs)';

/** The hello-populator of Kubernetes, from a registry. */
export const needsImages = 'with any volume data source';

/** It modifies claims for which no pod was made, and which WaitForFirstConsumer leaves unbound for ever. */
export const modifiesUnbound = 'volume-modify-stress.*should modify volumes with a different volumeAttributesClass';

/** Looks in PATH, and in the directories given. */
export function findPrograms(directories: readonly string[]): SuitePrograms | { missing: string } {
  const [ginkgo, e2eTest] = ['ginkgo', 'e2e.test'].map((name) => findProgram(name, directories));
  if (ginkgo && e2eTest) return { ginkgo, e2eTest };
  return {
    missing:
      'ginkgo and e2e.test are not in PATH: take them from kubernetes-test-linux-amd64.tar.gz of the release that the cluster runs',
  };
}

/**
 * Runs a selection of Kubernetes' own storage suite. Specs that the selection leaves out are not in the result; those
 * that skip themselves are, with what they say.
 *
 * @param driver what the suite is told of the driver, a file
 * @param output called with each line that the suite prints
 */
export async function runStorageSuite(
  programs: SuitePrograms,
  { selection, kubeconfig, driver }: { selection: Selection; kubeconfig: string; driver: string },
  output: (line: string) => void,
): Promise<SpecResults> {
  const directory = await mkdtemp(path.join(tmpdir(), 'lamina-suite-'));
  try {
    const { focus, skip, processes, timeoutMinutes } = selection;
    const options = [
      `--procs=${processes}`,
      `--focus=${focus}`,
      `--skip=${skip}`,
      `--timeout=${timeoutMinutes}m`,
      '--no-color',
      '--silence-skips',
      '--poll-progress-after=5m',
      `--output-dir=${directory}`,
      '--json-report=report.json',
    ];
    const ours = [`--kubeconfig=${kubeconfig}`, `--storage.testdriver=${driver}`, '--provider=skeleton'];
    const child = execa(programs.ginkgo, [...options, programs.e2eTest, '--', ...ours], {
      all: true,
      buffer: false,
      // Which specs failed is in the report.
      reject: false,
      stdin: 'ignore',
    });
    for await (const line of child.iterable({ from: 'all' })) output(line);
    const { exitCode } = await child;
    const report = path.join(directory, 'report.json');
    if (!existsSync(report)) throw new Error(`ginkgo ended with ${exitCode} and left no report`);
    const results = parseGinkgoReport(JSON.parse(await readFile(report, 'utf8')));
    return { ...results, skipped: results.skipped.filter(({ reason }) => reason !== '') };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
