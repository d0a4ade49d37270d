import type { DiskImage } from '../../api/objects.ts';
import type { ReconcileResult } from '../../kube/controller.ts';
import { keyOf } from '../../kube/objects.ts';
import { formatBytes } from '../../lib/bytes.ts';
import type { FetchedContent } from '../../transfer/layers/layer-receiver.ts';
import { type DiskImageReports, hasFailed, percentOf } from './disk-image-report.ts';
import { failureOf } from './failures.ts';
import type { Origin } from '../origin.ts';
import type { NodeContext } from './node-context.ts';
import type { ServedPool } from './node-pools.ts';

export interface FetchWish {
  image: DiskImage;
  pool: ServedPool;
  origin: Origin;
  /** Makes the record that names what has come. */
  use: (content: FetchedContent) => Promise<unknown>;
}

/** How often it is said how far it is. */
const progressMs = 2000;

/** Begins to bring what a DiskImage starts from, or says how far that is, or why it is not. */
export async function fetchFor(
  { fetches, nodeName }: NodeContext,
  reports: DiskImageReports,
  { image, pool, origin, use }: FetchWish,
): Promise<ReconcileResult> {
  const key = keyOf(image.metadata);
  const state = fetches.look(key);
  if (state?.kind === 'failed') return reports.reportFailedJob(image, state, failureOf(state.error));
  const { receivedBytes, totalBytes } = state?.progress ?? { receivedBytes: 0, totalBytes: 0 };
  if (!state) fetches.start(key, pool, origin, use);
  // What has failed is said to go on when it does, and not each time it is tried again.
  if (hasFailed(image) && receivedBytes === 0) return { againAfterMs: progressMs };
  if (!state) {
    const note = `Fetching the ${origin.kind} ${origin.id} of node ${origin.nodeName} to node ${nodeName}.`;
    reports.tell(image, { type: 'Normal', reason: 'Fetching', action: 'Fetch', note });
  }
  const words = `Fetching from node ${origin.nodeName}: ${formatBytes(receivedBytes)} of ${formatBytes(totalBytes)}.`;
  const progress = totalBytes > 0 ? percentOf(receivedBytes, totalBytes) : '0%';
  await reports.reportNotReady(image, 'Fetching', words, { progress });
  return { againAfterMs: progressMs };
}
