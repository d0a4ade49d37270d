import { LaminaError } from '../../lib/errors.ts';
import type { FileAccess } from '../../qemu/blockdev.ts';
import { imageBlockdev } from '../../qemu/blockdev.ts';
import { QmpClient } from '../../qemu/qmp-client.ts';
import { isDuplicateNode } from '../../qemu/qmp-failures.ts';
import { exportId } from '../../qemu/storage-daemon.ts';
import type { ChainLayer } from '../../store/records.ts';
import { followChain, type Following } from './follow-chain.ts';

/** A daemon that takes longer for one command does not answer: I/O of its volume stands still meanwhile. */
const commandTimeoutMs = 10_000;

/**
 * What is done to a daemon in service. Each opens a session of its own on `socketPath`: the server takes one client at a
 * time, and a plugin that was killed must not keep its successor out.
 * All throw LaminaError `engine-dead`, `engine-unresponsive`, `qmp-failed`.
 */
async function withQmp<T>(socketPath: string, work: (qmp: QmpClient) => Promise<T>): Promise<T> {
  const qmp = await QmpClient.open(socketPath, commandTimeoutMs);
  try {
    return await work(qmp);
  } finally {
    qmp.close();
  }
}

/** Id of the layer that the daemon's export writes to. */
export function activeHead(socketPath: string): Promise<string> {
  return withQmp(socketPath, queryHead);
}

/** Opens `overlay`, not yet part of the chain. Idempotent. */
export function addOverlay(socketPath: string, overlay: ChainLayer, access: FileAccess): Promise<void> {
  const { id, format, path } = overlay;
  const options = imageBlockdev({ nodeName: id, format, path, readOnly: false, backing: null }, access);
  return withQmp(socketPath, async (qmp) => {
    try {
      await qmp.blockdevAdd(options);
    } catch (error) {
      if (!isDuplicateNode(error)) throw error;
    }
  });
}

/** Puts `overlayLayerId`, added before, on top of the head. Idempotent. */
export function switchToOverlay(socketPath: string, overlayLayerId: string): Promise<void> {
  return withQmp(socketPath, async (qmp) => {
    const head = await queryHead(qmp);
    if (head !== overlayLayerId) await qmp.blockdevSnapshot(head, overlayLayerId);
  });
}

/** Grows the image that the export shows; one that is as big already is left alone. Idempotent. */
export function growHead(socketPath: string, sizeBytes: number): Promise<void> {
  return withQmp(socketPath, async (qmp) => {
    const head = await queryHead(qmp);
    const node = (await qmp.queryNamedBlockNodes()).find((candidate) => candidate.nodeName === head);
    if (node && node.virtualSizeBytes > sizeBytes) return;
    await qmp.blockResize(head, sizeBytes);
  });
}

/**
 * As followChain, where the daemon writes to the uppermost layer of the chain. @returns false where it does not: a snapshot is
 * not finished
 */
export function followMerges(socketPath: string, following: Following): Promise<boolean> {
  return withQmp(socketPath, async (qmp) => {
    const head = await queryHead(qmp);
    if (head !== following.chain[0]?.id) return false;
    await followChain(qmp, head, following);
    return true;
  });
}

async function queryHead(qmp: QmpClient): Promise<string> {
  const shown = (await qmp.queryBlockExports()).find((candidate) => candidate.id === exportId);
  if (!shown) {
    throw new LaminaError('engine-dead', 'the storage daemon runs without its export: detach the disk, then attach it');
  }
  return shown.nodeName;
}
