import { messageOf } from '../../lib/errors.ts';
import { settleSnapshots, sweep } from '../../store/recover.ts';
import type { DiskId, DiskRecord } from '../../store/records.ts';
import { attachRequest, type DiskContext } from './disk-context.ts';
import { findLive } from './live-disk.ts';

/**
 * Meets the running storage daemons and devices again after a restart: finishes or undoes what was interrupted, tells
 * what is attached, and stops what belongs to no disk. A single disk that cannot be recovered now is logged and does
 * not keep the others from being served; its next operation tries again.
 */
export async function recoverDisks(context: DiskContext): Promise<void> {
  const { pool, attacher, logger } = context;
  for (const disk of [...pool.disks.values()]) {
    // Until it is known otherwise, its layers are open.
    await pool.markAttached(disk.id);
    await attempt(context, disk.id, () => meetAgain(context, disk));
  }
  for (const diskId of await attacher.daemonDiskIds()) {
    if (pool.disks.has(diskId as DiskId)) continue;
    logger.warn({ diskId }, 'stopping the storage daemon of a disk that is not in the pool');
    await attempt(context, diskId, () => attacher.detach({ diskId, chain: [] }));
  }
  for (const disk of [...pool.disks.values()]) {
    await attempt(context, disk.id, async () => settleSnapshots(pool, disk.id, await findLive(context, disk)));
  }
  await sweep(pool);
}

async function meetAgain({ pool, attacher, logger }: DiskContext, disk: DiskRecord): Promise<void> {
  const request = attachRequest(pool, disk);
  const attachment = await attacher.find(request);
  if (attachment?.device) {
    if (attachment.state === 'healthy')
      logger.info({ diskId: disk.id, device: attachment.device.path }, 'disk is still attached');
    else
      logger.error(
        { diskId: disk.id, state: attachment.state },
        'the storage daemon of an attached disk is not healthy',
      );
    return;
  }
  if (attachment) await attacher.detach(request);
  pool.markDetached(disk.id);
}

async function attempt(context: DiskContext, diskId: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    context.logger.error({ diskId, error: messageOf(error) }, 'this disk could not be recovered');
  }
}
