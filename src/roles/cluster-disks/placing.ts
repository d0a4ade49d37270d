import type { CreateDiskRequest, Placement } from '../../csi/controller/disk-service.ts';
import { isBeingDeleted, refOf } from '../../kube/objects.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';
import { chooseNode } from '../../reconcile/cluster/placement.ts';
import type { PoolRooms } from '../../reconcile/cluster/pool-rooms.ts';
import { type ClusterDiskContext, isObjectName, readOfCsi, refIn } from './context.ts';
import { isMade, isTaken } from './info.ts';

/** What a new volume starts from, as far as it decides on size and place. */
export interface SourceFacts {
  sizeBytes: number;
  /** The node that has it. */
  nodeName: string;
  /** Name of its pool; null where that is not known any more. */
  poolName: string | null;
  /** Nodes that have a copy of it. */
  copyNodes: readonly string[];
  /** Whether it can be brought to another node. */
  isMoved: boolean;
}

/** @throws LaminaError `disk-not-found`, `snapshot-not-found`, `image-not-found`; `busy` where it is not made yet */
export async function readSource(
  context: ClusterDiskContext,
  source: CreateDiskRequest['source'],
  placement: Placement,
  signal: AbortSignal,
): Promise<SourceFacts | null> {
  if (source === null) return null;
  return { ...(await factsOf(context, source, signal)), isMoved: isMoved(source, placement) };
}

/** Whether such a source is brought to where the pod is. */
function isMoved({ kind }: NonNullable<CreateDiskRequest['source']>, { transfer }: Placement): boolean {
  return transfer === 'always' || (transfer === 'images' && kind === 'image');
}

async function factsOf(
  context: ClusterDiskContext,
  source: NonNullable<CreateDiskRequest['source']>,
  signal: AbortSignal,
): Promise<Omit<SourceFacts, 'isMoved'>> {
  switch (source.kind) {
    case 'disk':
      return factsOfDisk(await readSourceDisk(context, source.id, signal));
    case 'image':
      return factsOfDisk(await readSourceImage(context, source.id, signal));
    case 'snapshot':
      return factsOfSnapshot(context, await readSourceSnapshot(context, source.id, signal), signal);
  }
}

/** @param key `namespace/name` @throws LaminaError `image-not-found`, `invalid-parameter` where it is not sealed, `busy` before it is ready */
export async function readSourceImage(
  { images }: ClusterDiskContext,
  key: string,
  signal?: AbortSignal,
): Promise<DiskImage & { spec: { nodeName: string } }> {
  const [namespace, name, ...more] = key.split('/');
  const isName = namespace && name && more.length === 0 && isObjectName(namespace) && isObjectName(name);
  const image = isName ? await images.get({ namespace, name }, { signal }) : undefined;
  if (!image || isBeingDeleted(image)) {
    throw new LaminaError(
      'image-not-found',
      `there is no DiskImage ${key}${image ? ' any more: it is being deleted' : ''}`,
    );
  }
  if (!image.spec.sealed) {
    throw new LaminaError(
      'invalid-parameter',
      `the DiskImage ${key} is not sealed, so its content may change: declare another one with sealed: true and this one as its source`,
    );
  }
  const { nodeName } = image.spec;
  if (!isMade(image) || nodeName === undefined) {
    throw new LaminaError('busy', `the DiskImage ${key} is not ready yet; try again`);
  }
  return { ...image, spec: { ...image.spec, nodeName } };
}

/** A disk that snapshots and clones can be made of. @throws LaminaError `disk-not-found`; `busy` where it is not made yet */
export async function readSourceDisk(
  context: ClusterDiskContext,
  id: string,
  signal: AbortSignal,
): Promise<DiskImage & { spec: { nodeName: string } }> {
  const image = await readOfCsi(context.images, refIn(context, id), signal);
  if (!image || isBeingDeleted(image)) {
    throw new LaminaError('disk-not-found', `there is no volume ${id}${image ? ' any more: it is being deleted' : ''}`);
  }
  const { nodeName } = image.spec;
  if (!isMade(image) || nodeName === undefined) {
    throw new LaminaError('busy', `the volume ${id} is still being made; try again`);
  }
  return { ...image, spec: { ...image.spec, nodeName } };
}

async function readSourceSnapshot(context: ClusterDiskContext, id: string, signal: AbortSignal): Promise<DiskSnapshot> {
  const snapshot = await readOfCsi(context.snapshots, refIn(context, id), signal);
  if (!snapshot || isBeingDeleted(snapshot)) {
    const why = snapshot ? ' any more: it is being deleted' : '';
    throw new LaminaError('snapshot-not-found', `there is no snapshot ${id}${why}`);
  }
  if (!isTaken(snapshot)) throw new LaminaError('busy', `the snapshot ${id} is still being taken; try again`);
  return snapshot;
}

function factsOfDisk({ spec, status }: DiskImage & { spec: { nodeName: string } }): Omit<SourceFacts, 'isMoved'> {
  const copyNodes = status.copies.filter(({ ready }) => ready).map(({ nodeName }) => nodeName);
  return { sizeBytes: status.virtualSize ?? 0, nodeName: spec.nodeName, poolName: spec.pool, copyNodes };
}

async function factsOfSnapshot(
  context: ClusterDiskContext,
  { metadata, spec, status }: DiskSnapshot,
  signal: AbortSignal,
): Promise<Omit<SourceFacts, 'isMoved'>> {
  const nodeName = spec.nodeName ?? status.nodeName;
  if (nodeName === undefined)
    throw new LaminaError('busy', `it is not known yet which node has snapshot ${metadata.name}`);
  // The disk may be gone by now, and with it what is known of the pool; the node knows.
  const image = await readOfCsi(context.images, refIn(context, spec.diskImageName), signal);
  return { sizeBytes: status.restoreSize ?? 0, nodeName, poolName: image?.spec.pool ?? null, copyNodes: [] };
}

/**
 * The nodes that a volume may be on. Whatever the scheduler has chosen is only the first of those that csi-provisioner
 * names, so that a volume with a source can be made where that is, and the pod follows it. A blank one could be made
 * elsewhere, too, but then a pod that has to be on the chosen node would never get it: no room there has the scheduler
 * choose again.
 */
export async function narrowToPod(
  { claims }: ClusterDiskContext,
  placement: Placement,
  source: CreateDiskRequest['source'],
  signal: AbortSignal,
): Promise<Placement> {
  if (!placement.claim || (source !== null && !isMoved(source, placement))) return placement;
  const claim = await claims.get(refOf(placement.claim), { signal });
  const selected = claim?.selectedNode;
  const { allowed } = placement.nodes;
  if (selected === undefined || (allowed !== null && !allowed.includes(selected))) return placement;
  return { ...placement, nodes: { allowed: [selected], preferred: [] } };
}

/** @throws LaminaError `invalid-parameter` where no node has a pool of that name */
export function assertPool(rooms: PoolRooms, name: string): void {
  const names = rooms.poolNames();
  if (names.includes(name)) return;
  const others = names.length > 0 ? `there are ${names.join(', ')}` : 'there are none yet; is the node plugin running?';
  throw new LaminaError('invalid-parameter', `parameters: no node has a pool '${name}'; ${others}`);
}

/**
 * The node for a new volume.
 *
 * @throws LaminaError `pool-full` or `topology-unsatisfiable` where none of those that are allowed can have it, so that
 *   the scheduler chooses others; `unsupported` where it would have to be in another pool than its source
 */
export function placeVolume(
  { rooms }: Pick<ClusterDiskContext, 'rooms'>,
  { nodes, pool }: Placement,
  { sizeBytes, isThick }: { sizeBytes: number; isThick: boolean },
  source: SourceFacts | null,
): string {
  // Nobody has said where the pod will be, so it is made where nothing has to be brought.
  const isTransferred =
    source !== null && source.isMoved && nodes.allowed !== null && !nodes.allowed.includes(source.nodeName);
  if (source && !isTransferred) assertReachable(source, pool, nodes.allowed);
  const where = source && !isTransferred ? { allowed: nodesOf(source, nodes.allowed), preferred: [] } : nodes;
  const choice = chooseNode(rooms.candidates(pool), { ...where, sizeBytes, isThick });
  if ('nodeName' in choice) return choice.nodeName;
  throw new LaminaError(
    choice.reason === 'NoRoom' ? 'pool-full' : 'topology-unsatisfiable',
    `no node can have a volume of ${sizeBytes} bytes in its pool '${pool}': ${choice.message}`,
  );
}

/** Where a volume can start without anything being brought there. */
function nodesOf(source: SourceFacts, allowed: Placement['nodes']['allowed']): string[] {
  const { nodeName, copyNodes } = source;
  return allowed === null && source.isMoved ? [nodeName, ...copyNodes] : [nodeName];
}

function assertReachable(source: SourceFacts, pool: string, allowed: readonly string[] | null): void {
  if (source.poolName !== null && source.poolName !== pool) {
    throw new LaminaError(
      'unsupported',
      `the source is in the pool '${source.poolName}', and a volume that starts from it must be, too: use a StorageClass with that pool instead of '${pool}'`,
    );
  }
  if (allowed === null || allowed.includes(source.nodeName)) return;
  throw new LaminaError(
    'topology-unsatisfiable',
    `the source is on node ${source.nodeName}, and a volume that starts from it must be, too; allowed are ${allowed.join(', ') || 'places that are no nodes'}`,
  );
}
