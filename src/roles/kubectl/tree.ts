import { annotations } from '../../api/names.ts';
import { type DiskImage, diskImages, type DiskSnapshot, diskSnapshots } from '../../api/objects.ts';
import type { KubeClient } from '../../kube/client/client.ts';
import { findCondition } from '../../kube/conditions.ts';
import { keyOf } from '../../kube/objects.ts';
import { ResourceClient } from '../../kube/client/resource-client.ts';
import { formatBytes } from '../../lib/bytes.ts';
import { originOfImage, originOfSnapshot } from '../../reconcile/origin.ts';
import { formatAge } from './text.ts';

interface TreeNode {
  id: string;
  node: string;
  /** What it started from, as `id` of that. */
  origin: string | undefined;
  text: string;
  isWanted: boolean;
}

/**
 * DiskImages and DiskSnapshots by node, below what they started from.
 *
 * @param namespace only those in it, or that are volumes of its claims, with what they started from and what started
 *   from them; all unless given
 */
export async function describeTree(client: KubeClient, namespace: string | null, now: Date): Promise<string> {
  const images = await new ResourceClient(client, diskImages).list();
  const snapshots = await new ResourceClient(client, diskSnapshots).list();
  const all = [
    ...images.map((image) => imageNode(image, namespace)),
    ...snapshots.map((s) => snapshotNode(s, namespace, now)),
  ];
  if (!all.some(({ isWanted }) => isWanted)) return 'There is no DiskImage and no DiskSnapshot.';
  const names = [...new Set(all.map(({ node }) => node))].sort();
  return names
    .flatMap((node) =>
      drawNode(
        node,
        all.filter((one) => one.node === node),
      ),
    )
    .join('\n');
}

function drawNode(name: string, objects: readonly TreeNode[]): string[] {
  const here = new Set(objects.map(({ id }) => id));
  const below = Map.groupBy(objects, ({ origin }) => (origin !== undefined && here.has(origin) ? origin : ''));
  const isShown = (one: TreeNode): boolean => one.isWanted || (below.get(one.id) ?? []).some(isShown);
  const draw = (parent: string, indent: string, isBelowWanted: boolean): string[] => {
    const shown = (below.get(parent) ?? []).filter((one) => isBelowWanted || isShown(one));
    return shown.flatMap(({ id, text, isWanted }, index) => {
      const isLast = index === shown.length - 1;
      const deeper = draw(id, `${indent}${isLast ? '   ' : '│  '}`, isBelowWanted || isWanted);
      return [`${indent}${isLast ? '└─' : '├─'} ${text}`, ...deeper];
    });
  };
  const lines = draw('', '', false);
  return lines.length > 0 ? [name, ...lines] : [];
}

function imageNode(image: DiskImage, namespace: string | null): TreeNode {
  const { metadata, spec, status } = image;
  const claim = metadata.annotations[annotations.claim];
  const size = status.virtualSize ?? spec.size;
  const words = [
    `DiskImage ${keyOf(metadata)}`,
    ...(claim === undefined ? [] : [`(claim ${claim})`]),
    ...(size === undefined ? [] : [formatBytes(size)]),
    status.format ?? spec.format,
    ...(status.allocated === undefined ? [] : [`${formatBytes(status.allocated)} its own`]),
    stateOf(status.conditions),
    ...(status.progress === undefined ? [] : [status.progress]),
    ...(status.attached ? ['attached'] : []),
  ];
  return {
    id: `DiskImage ${keyOf(metadata)}`,
    node: spec.nodeName ?? '(on no node yet)',
    origin: originOfImage(image)[0],
    text: words.join('  '),
    isWanted: namespace === null || metadata.namespace === namespace || claim?.startsWith(`${namespace}/`) === true,
  };
}

function snapshotNode(snapshot: DiskSnapshot, namespace: string | null, now: Date): TreeNode {
  const { metadata, spec, status } = snapshot;
  const age = status.creationTime === undefined ? [] : [`${formatAge(status.creationTime, now)} old`];
  return {
    id: `DiskSnapshot ${keyOf(metadata)}`,
    node: spec.nodeName ?? '(on no node yet)',
    origin: originOfSnapshot(snapshot)[0],
    text: [`DiskSnapshot ${keyOf(metadata)}`, stateOf(status.conditions), ...age].join('  '),
    isWanted: namespace === null || metadata.namespace === namespace,
  };
}

function stateOf(conditions: DiskImage['status']['conditions']): string {
  const ready = findCondition(conditions, 'Ready');
  const healthy = findCondition(conditions, 'Healthy');
  if (ready?.status !== 'True') return ready?.reason ?? 'NotSeenYet';
  return healthy?.status === 'False' ? healthy.reason : 'Ready';
}
