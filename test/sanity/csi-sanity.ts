import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../../src/lib/exec.ts';
import { parseGinkgoReport, type SpecResults } from '../ginkgo-report.ts';

const minute = 60_000;

export interface SanityOptions {
  socket: string;
  /** Its own files and paths go below; removed by the caller. */
  directory: string;
  access: 'mount' | 'block';
  /** StorageClass parameters of every volume. */
  parameters: Record<string, string>;
  /** VolumeAttributesClass parameters. */
  mutableParameters: Record<string, string>;
  /** Handed over with every call that may carry secrets. */
  secret: string;
  volumeSizeBytes: number;
}

/** Where csi-sanity is; it is built where there is none. */
export async function findCsiSanity(): Promise<string> {
  const script = path.resolve(import.meta.dirname, '../../scripts/csi-sanity');
  const environment = ['CSI_SANITY', 'TESTBED_CACHE', 'PATH', 'HOME'].flatMap((name) =>
    process.env[name] === undefined ? [] : [`${name}=${process.env[name]}`],
  );
  const { stdout } = await run('env', [...environment, script], { timeoutMs: 10 * minute });
  return stdout.trim();
}

/** Runs all specs against the driver on `socket`. */
export async function runCsiSanity(program: string, options: SanityOptions): Promise<SpecResults> {
  const at = (name: string) => path.join(options.directory, name);
  await mkdir(options.directory, { recursive: true });
  await writeFile(at('parameters.yaml'), yamlOf(options.parameters));
  await writeFile(at('mutable-parameters.yaml'), yamlOf(options.mutableParameters));
  await writeFile(at('secrets.yaml'), secretKinds.map((kind) => `${kind}:\n  key: ${options.secret}\n`).join(''));
  const flags = {
    endpoint: `unix://${options.socket}`,
    // Neither may be there before.
    stagingdir: at('staging'),
    mountdir: at('target'),
    secrets: at('secrets.yaml'),
    testvolumeaccesstype: options.access,
    testvolumesize: options.volumeSizeBytes,
    testvolumeexpandsize: 2 * options.volumeSizeBytes,
    testvolumeparameters: at('parameters.yaml'),
    testvolumemutableparameters: at('mutable-parameters.yaml'),
  };
  const report = at('report.json');
  const ginkgo = ['--ginkgo.no-color', '--ginkgo.timeout', '10m', '--ginkgo.json-report', report];
  const args = Object.entries(flags).map(([name, value]) => `-csi.${name}=${value}`);
  // 1 says that specs failed; which ones is in the report.
  await run(program, [...args, ...ginkgo], { timeoutMs: 11 * minute, okExitCodes: [1] });
  return parseGinkgoReport(JSON.parse(await readFile(report, 'utf8')));
}

const secretKinds = [
  'CreateVolumeSecret',
  'DeleteVolumeSecret',
  'ControllerValidateVolumeCapabilitiesSecret',
  'NodeStageVolumeSecret',
  'NodePublishVolumeSecret',
  'CreateSnapshotSecret',
  'DeleteSnapshotSecret',
  'ControllerExpandVolumeSecret',
  'ControllerModifyVolumeSecret',
  'ListSnapshotsSecret',
  'GetSnapshotSecret',
];

function yamlOf(values: Record<string, string>): string {
  // JSON is YAML.
  return JSON.stringify(values);
}
