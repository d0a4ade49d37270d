import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';
import type { EventRecorder } from '../../kube/events/events.ts';
import type { ObjectCache } from '../../kube/cache/object-cache.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Clock } from '../../lib/clock.ts';
import type { ImageImports } from './image-imports.ts';
import type { ImageUploads } from './image-uploads.ts';
import type { ImportSecrets } from './import-source.ts';
import type { LayerFetches } from './layer-fetches.ts';
import type { NodePools } from './node-pools.ts';
import type { NodeStep } from './node-steps.ts';

/** What the reconcilers of a node work with. */
export interface NodeContext {
  nodeName: string;
  /** Where the objects of volumes are. */
  systemNamespace: string;
  pools: NodePools;
  /** The objects of this node, as they were a moment ago. */
  images: ObjectCache<DiskImage>;
  snapshots: ObjectCache<DiskSnapshot>;
  imageClient: ResourceClient<DiskImage>;
  snapshotClient: ResourceClient<DiskSnapshot>;
  imports: ImageImports;
  uploads: ImageUploads;
  fetches: LayerFetches;
  importSecrets: ImportSecrets;
  events: EventRecorder;
  clock: Clock;
  checkpoint: Checkpoint<NodeStep>;
}
