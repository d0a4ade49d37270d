import { Daemon } from './daemon.ts';
import type { Testbed } from './testbed.ts';

export interface SidecarOptions {
  testbed: Testbed;
  kubeconfig: string;
  /** The CSI socket of the controller. */
  socket: string;
  /** Where the objects of capacities go. */
  namespace: string;
  logs: string;
}

// Retries that a person would wait minutes for are not what the stories are about.
const retries = ['--retry-interval-start=500ms', '--retry-interval-max=5s'];

/** Kubernetes' own part of a CSI driver: what turns claims and snapshots into calls of the controller. */
export function sidecarsOf(options: SidecarOptions): Daemon[] {
  const csi = ['--csi-address', options.socket, '--timeout=60s', ...retries];
  const capacity = ['--enable-capacity', '--capacity-ownerref-level=-1', '--capacity-poll-interval=5s'];
  const limits = ['--kube-api-capacity-qps=20', '--kube-api-capacity-burst=40'];
  return [
    provisionerOf(options, 'csi-provisioner', [...capacity, ...limits]),
    sidecar(options, 'csi-snapshotter', [...csi, '--extra-create-metadata']),
    sidecar(options, 'csi-resizer', [...csi, '--handle-volume-inuse-error=false']),
    sidecar(options, 'snapshot-controller', retries),
  ];
}

/** What turns claims into volumes, of this driver or another. @param name of the process among all */
export function provisionerOf(options: SidecarOptions, name: string, args: readonly string[]): Daemon {
  const csi = ['--csi-address', options.socket, '--timeout=60s', ...retries];
  const own = ['--extra-create-metadata', '--default-fstype=ext4'];
  return sidecar({ ...options, program: 'csi-provisioner' }, name, [...csi, ...own, ...args]);
}

function sidecar(
  { testbed, kubeconfig, namespace, logs, program }: SidecarOptions & { program?: string },
  name: string,
  args: readonly string[],
): Daemon {
  const common = ['--kubeconfig', kubeconfig, '--kube-api-qps=100', '--kube-api-burst=200', '--v=4'];
  return new Daemon({
    name,
    directory: logs,
    command: [testbed.program(program ?? name), ...common, ...args],
    env: { NAMESPACE: namespace, POD_NAME: 'controller' },
    // Those that have lost the driver end, and rely on being started again.
    restarted: true,
  });
}
