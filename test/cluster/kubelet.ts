import path from 'node:path';
import { VolumeCapability_AccessMode_Mode as AccessMode } from '../../src/gen/csi.ts';
import { parseQuantity } from '../../src/lib/quantity.ts';
import { type Access, capability, type CreatedVolume, type CsiClient, pathsBelow } from '../csi-client.ts';
import type { Volume } from './kinds.ts';
import type { SimulatedNode } from './simulated-node.ts';

/** Of a driver that knows SINGLE_NODE_MULTI_WRITER. */
const accessModes: Record<string, AccessMode> = {
  ReadWriteOnce: AccessMode.SINGLE_NODE_MULTI_WRITER,
  ReadWriteOncePod: AccessMode.SINGLE_NODE_SINGLE_WRITER,
};

/** Plays kubelet on a node: what it would do for a pod that uses a volume. */
export class Kubelet {
  readonly #csi: CsiClient;
  readonly #mounts: string;

  constructor(node: SimulatedNode) {
    this.#csi = node.connect();
    this.#mounts = path.join(node.directory, 'mounts');
  }

  /** Stages a volume and publishes it for a pod. @returns the directory, or the block device file */
  async mount(volume: Volume, pod = 'pod'): Promise<string> {
    const { staging } = pathsBelow(this.#mounts, handleOf(volume));
    const target = this.#target(volume, pod);
    const mode = accessModes[volume.spec.accessModes[0] ?? ''];
    const created = createdVolume(volume);
    await this.#csi.stage(created, staging, mode);
    await this.#csi.publish(created, { staging, target }, mode === undefined ? {} : { mode });
    return target;
  }

  /** The last pod that used the volume is gone. */
  async unmount(volume: Volume, ...pods: readonly string[]): Promise<void> {
    for (const pod of pods.length === 0 ? ['pod'] : pods) await this.unpublish(volume, pod);
    await this.#csi.unstage(handleOf(volume), pathsBelow(this.#mounts, handleOf(volume)).staging);
  }

  /** A pod that used the volume is gone. */
  async unpublish(volume: Volume, pod: string): Promise<void> {
    await this.#csi.unpublish(handleOf(volume), this.#target(volume, pod));
  }

  /** Grows device and file system to the volume's capacity. */
  async resize(volume: Volume, pod = 'pod'): Promise<void> {
    await this.#csi.node.nodeExpandVolume({
      volumeId: handleOf(volume),
      volumePath: this.#target(volume, pod),
      stagingTargetPath: pathsBelow(this.#mounts, handleOf(volume)).staging,
      capacityRange: { requiredBytes: BigInt(sizeOf(volume)), limitBytes: 0n },
      volumeCapability: capability(accessOf(volume)),
    });
  }

  close(): void {
    this.#csi.close();
  }

  #target(volume: Volume, pod: string): string {
    return path.join(this.#mounts, handleOf(volume), pod);
  }
}

export function handleOf({ metadata, spec }: Volume): string {
  if (!spec.csi) throw new Error(`PersistentVolume ${metadata.name} is none of a CSI driver`);
  return spec.csi.volumeHandle;
}

function createdVolume(volume: Volume): CreatedVolume {
  const context = volume.spec.csi?.volumeAttributes ?? {};
  return { id: handleOf(volume), sizeBytes: sizeOf(volume), access: accessOf(volume), context };
}

function accessOf({ spec }: Volume): Access {
  if (spec.volumeMode === 'Block') return { kind: 'block' };
  const { mountOptions = [], csi } = spec;
  return { kind: 'mount', mountFlags: mountOptions, ...(csi?.fsType ? { fsType: csi.fsType } : {}) };
}

function sizeOf({ spec }: Volume): number {
  return parseQuantity(spec.capacity.storage) ?? 0;
}
