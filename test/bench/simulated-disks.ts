import { annotations, diskPoolName, driverName, finalizers, nodeTopologyKey } from '../../src/api/names.ts';
import { GiB } from '../../src/lib/bytes.ts';
import { formatQuantity } from '../../src/lib/quantity.ts';
import type { Kube } from '../cluster/kube.ts';
import { systemNamespace } from '../cluster/objects.ts';

export const simulatedPool = 'simulated';

/** More at once only make the API server's queue longer. */
const atOnce = 16;
const disksOfOneNode = 100;
const time = '2026-01-02T03:04:05Z';

/**
 * The objects of a big cluster whose node plugins have made everything that is wanted: nodes with their pools, and
 * DiskImages with the PersistentVolumes that they belong to. There is nothing behind them.
 */
export async function declareSimulatedDisks(kube: Kube, count: number, signal: AbortSignal): Promise<void> {
  const nodes = Array.from({ length: Math.ceil(count / disksOfOneNode) }, (_, index) => `simulated-${index}`);
  await inParallel(nodes, signal, (name) => declareNode(kube, name));
  const disks = Array.from({ length: count }, (_, index) => index);
  await inParallel(disks, signal, (index) => declareDisk(kube, index, nodes[index % nodes.length] as string));
}

async function declareNode(kube: Kube, name: string): Promise<void> {
  await kube.nodes.create({ metadata: { name } });
  const pool = diskPoolName(simulatedPool, name);
  const spec = { poolName: simulatedPool, nodeName: name };
  await kube.diskPools.create({ ...{ spec }, metadata: { name: pool } });
  const size = formatQuantity(1000 * GiB);
  const space = {
    ...{ total: size, free: size, reserved: '0', criticalMark: '20Gi', overcommit: '2' },
    ...{ provisioned: '100Gi', allocated: '10Gi', availableThin: size, availableThick: size },
  };
  const conditions = [
    condition('Ready', 'Serving'),
    condition('DataPathProven', 'SelfTestPassed'),
    condition('SpaceAvailable', 'AboveMarks'),
    condition('Claimed', 'AllClaimed'),
  ];
  const status = { conditions, space, disks: disksOfOneNode, snapshots: 0, orphanCount: 0 };
  await kube.diskPools.mergePatch({ name: pool }, { status }, { subresource: 'status' });
}

async function declareDisk(kube: Kube, index: number, nodeName: string): Promise<void> {
  // As long as those that the provisioner makes.
  const name = `pvc-${String(index).padStart(8, '0')}-5c61-4a5e-9a3c-0123456789ab`;
  const metadata = {
    ...{ namespace: systemNamespace, name, finalizers: [finalizers.disk] },
    // All of it was noted long ago.
    annotations: {
      [annotations.csiName]: name,
      [annotations.claim]: `big/data-${index}`,
      [annotations.claimedBy]: `PersistentVolume ${name}`,
    },
  };
  await kube.diskImages.create({ ...{ spec: { size: '1Gi', pool: simulatedPool, nodeName } }, metadata });
  await kube.volumes.create({ ...{ spec: volumeSpec(name, nodeName) }, metadata: { name } });
  // Else Kubernetes says so, of all of them, for ten minutes.
  await kube.volumes.mergePatch({ name }, { status: { phase: 'Available' } }, { subresource: 'status' });
  const conditions = [
    condition('Placed', 'NodeGiven'),
    condition('Ready', 'Made'),
    condition('Sized', 'AsWanted'),
    condition('Healthy', 'NothingFound'),
  ];
  const is = { diskId: name, nodeName, virtualSize: '1Gi', allocated: '24Mi', format: 'qcow2', chainDepth: 1 };
  const status = { observedGeneration: 1, conditions, ...is, attached: true };
  await kube.diskImages.mergePatch(metadata, { status }, { subresource: 'status' });
}

function volumeSpec(volumeHandle: string, nodeName: string): object {
  return {
    capacity: { storage: '1Gi' },
    accessModes: ['ReadWriteOnce'],
    // Nobody deletes them: there is no sidecar here.
    persistentVolumeReclaimPolicy: 'Retain',
    storageClassName: 'thin',
    csi: { driver: driverName, volumeHandle, fsType: 'ext4' },
    nodeAffinity: {
      required: {
        nodeSelectorTerms: [{ matchExpressions: [{ key: nodeTopologyKey, operator: 'In', values: [nodeName] }] }],
      },
    },
  };
}

function condition(type: string, reason: string): object {
  const message = 'As long as such a message is, since it has to be kept in memory as well.';
  return { type, status: 'True', reason, message, lastTransitionTime: time, observedGeneration: 1 };
}

async function inParallel<T>(
  items: readonly T[],
  signal: AbortSignal,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const worker = async (): Promise<void> => {
    for (const item of queue) {
      signal.throwIfAborted();
      await work(item);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
