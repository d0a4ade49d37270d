import { errnoOf, LaminaError } from '../lib/errors.ts';
import { readRecord, writeRecord } from '../lib/fs-records.ts';
import type { Pool } from './pool.ts';
import { type ClusterRecord, clusterRecordSchema, recordVersion } from './records.ts';

/**
 * Makes a pool the one of a cluster, which it stays: objects of another cluster never decide over its disks.
 *
 * @param cluster what identifies it
 * @param takeOver whether somebody wants the pool to change clusters
 * @throws LaminaError `pool-foreign` where it is another cluster's
 */
export async function claimForCluster({ layout }: Pool, cluster: string, takeOver: boolean): Promise<void> {
  const record = await readClaim(layout.clusterRecord);
  if (record?.cluster === cluster) return;
  if (record && !takeOver) {
    throw new LaminaError(
      'pool-foreign',
      `${layout.root} belongs to another cluster (${record.cluster}, since ${record.claimedAt}), whose disks it holds`,
    );
  }
  const claim: ClusterRecord = { version: recordVersion, cluster, claimedAt: new Date().toISOString() };
  await writeRecord(layout.clusterRecord, claim, layout.tmp);
}

async function readClaim(file: string): Promise<ClusterRecord | null> {
  try {
    return await readRecord(file, recordVersion, clusterRecordSchema);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}
