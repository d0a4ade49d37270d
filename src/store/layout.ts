import path from 'node:path';
import { type DiskId, type Format, type ImageId, type LayerId, layerIdSchema, type SnapshotId } from './records.ts';

/** Where things are in a pool. */
export class PoolLayout {
  readonly root: string;
  constructor(root: string) {
    this.root = path.resolve(root);
  }
  get poolRecord(): string {
    return path.join(this.root, 'pool.json');
  }
  /** Which cluster the pool is of, where it is of one. */
  get clusterRecord(): string {
    return path.join(this.root, 'cluster.json');
  }
  get lockFile(): string {
    return path.join(this.root, 'pool.lock');
  }
  /** Given up when not even a record can be written any more, so that deleting always works. */
  get ballast(): string {
    return path.join(this.root, 'ballast');
  }
  get layers(): string {
    return path.join(this.root, 'layers');
  }
  get disks(): string {
    return path.join(this.root, 'disks');
  }
  get snapshots(): string {
    return path.join(this.root, 'snapshots');
  }
  get images(): string {
    return path.join(this.root, 'images');
  }
  /** Downloads that are not complete, which a restart goes on with (incoming.ts). */
  get incoming(): string {
    return path.join(this.root, 'incoming');
  }
  get tmp(): string {
    return path.join(this.root, 'tmp');
  }
  /** Of the engine's self-test, which detaches what it left there before it empties it. */
  get selfTest(): string {
    return path.join(this.tmp, 'self-test');
  }
  /** Damaged records that `lamina check --repair` took out of service, for a person to look at. */
  get setAside(): string {
    return path.join(this.root, 'set-aside');
  }
  layer(id: LayerId): string {
    return path.join(this.layers, id);
  }
  layerRecord(id: LayerId): string {
    return path.join(this.layers, id, 'layer.json');
  }
  layerData(id: LayerId, format: Format): string {
    return path.join(this.layers, id, dataName(format));
  }
  disk(id: DiskId): string {
    return path.join(this.disks, `${id}.json`);
  }
  snapshot(id: SnapshotId): string {
    return path.join(this.snapshots, `${id}.json`);
  }
  image(id: ImageId): string {
    return path.join(this.images, `${id}.json`);
  }
}

export function dataName(format: Format): string {
  return `data.${format}`;
}

/** What an overlay's header names as its backing file: relative, so that a pool can be moved. */
export function backingPath(parent: LayerId, format: Format): string {
  return `../${parent}/${dataName(format)}`;
}

/** The layer that backingPath was made of, or undefined where it was made by something else. */
export function parentInBackingPath(backingFile: string): LayerId | undefined {
  const [, parent] = /^\.\.\/([^/]+)\/data\.(qcow2|raw)$/.exec(backingFile) ?? [];
  return layerIdSchema.safeParse(parent).data;
}

/** The file that a merge of two layers is built in, beside the upper one's data. */
export const mergeName = 'merge.qcow2';
