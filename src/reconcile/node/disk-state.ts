import { stat } from 'node:fs/promises';
import type { DiskProblem } from '../../engine/staging/disk-health.ts';
import { formatQuantity, formatRoundedQuantity } from '../../lib/quantity.ts';
import type { DiskRecord } from '../../store/records.ts';
import type { ServedPool } from './node-pools.ts';

/** What a node finds of a disk. */
export interface DiskState {
  disk: DiskRecord;
  format: 'qcow2' | 'raw';
  /** Of its own file. */
  allocatedBytes: number;
  chainDepth: number;
  attached: boolean;
  unhealthy: { reason: (typeof reasons)[DiskProblem['kind']]; message: string } | null;
}

const reasons = {
  dead: 'EngineDead',
  unresponsive: 'EngineUnresponsive',
  damaged: 'DiskDamaged',
  'writes-paused': 'WritesPaused',
} as const satisfies Record<DiskProblem['kind'], string>;

export async function describeDisk(
  { context, attachments, staging }: ServedPool,
  disk: DiskRecord,
): Promise<DiskState> {
  const { pool } = context;
  const chain = pool.chain(disk.head);
  const [head] = chain;
  const { blocks } = await stat(pool.layout.layerData(disk.head, pool.layer(disk.head).format));
  // What is not attached has no daemon and no mount to be looked at.
  const attachment = pool.isAttached(disk.id) ? await attachments.attachment(disk.id) : null;
  const problem = attachment ? await staging.problem(disk.id) : null;
  return {
    disk,
    format: head?.format ?? 'qcow2',
    allocatedBytes: blocks * 512,
    chainDepth: chain.length,
    attached: attachment?.device !== null && attachment !== null,
    unhealthy: problem && { reason: reasons[problem.kind], message: problem.message },
  };
}

/** The members of a DiskImage's status that say so. */
export function statusOfDisk({ disk, format, allocatedBytes, chainDepth, attached }: DiskState, nodeName: string) {
  return {
    diskId: disk.id,
    nodeName,
    virtualSize: formatQuantity(disk.sizeBytes),
    allocated: formatRoundedQuantity(allocatedBytes, 'up'),
    format,
    chainDepth,
    attached,
    progress: null,
  };
}
