import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');

const controlPlanePrograms = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubectl'];
const sidecarPrograms = ['csi-provisioner', 'csi-snapshotter', 'csi-resizer', 'snapshot-controller'];

/** What starts a control plane on this machine, and the programs that run in it. */
export interface Testbed {
  /** The script that starts and stops a control plane. */
  controlPlane: string;
  /** A program of Kubernetes or of its CSI sidecars. */
  program: (name: string) => string;
}

/** The testbed of this machine, or in one sentence what is missing. */
export function findTestbed(environment: NodeJS.ProcessEnv = process.env): Testbed | { missing: string } {
  if (process.getuid?.() !== 0) return { missing: 'disks are attached and mounted, which takes root' };
  const directory = environment['LAMINA_TESTBED'] || path.resolve(root, '../shared/testbed');
  const controlPlane = path.join(directory, 'control-plane');
  if (!existsSync(controlPlane)) {
    return { missing: `there is no testbed at ${directory}; LAMINA_TESTBED says where there is one` };
  }
  // The testbed alone knows where it keeps what it has built.
  const where = 'source "$1/lib.sh"; trap - EXIT; printf %s "$GOBUILT"';
  const built = execFileSync('bash', ['-c', where, 'lib', directory], { encoding: 'utf8' });
  const program = (name: string) => path.join(built, name);
  const lacking = [...controlPlanePrograms, ...sidecarPrograms].filter((name) => !existsSync(program(name)));
  if (lacking.length > 0) return { missing: `no ${lacking.join(', ')} in ${built}` };
  if (!existsSync(path.join(root, 'dist/main.js'))) return { missing: "the program is not built: run 'make build'" };
  return { controlPlane, program };
}
