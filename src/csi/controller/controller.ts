import type { ControllerService } from '../../gen/csi.ts';
import type { OperationLocks } from '../operation-locks.ts';
import type { RpcMethods } from '../rpc.ts';
import { controllerGetCapabilities } from './capabilities.ts';
import { createSnapshot } from './create-snapshot.ts';
import { createVolume } from './create-volume.ts';
import { deleteSnapshot } from './delete-snapshot.ts';
import { deleteVolume } from './delete-volume.ts';
import type { DiskService } from './disk-service.ts';
import { expandVolume } from './expand-volume.ts';
import { getCapacity } from './get-capacity.ts';
import { getSnapshot } from './get-snapshot.ts';
import { getVolume } from './get-volume.ts';
import { listSnapshots } from './list-snapshots.ts';
import { listVolumes } from './list-volumes.ts';
import { modifyVolume } from './modify-volume.ts';
import { validateVolumeCapabilities } from './validate-volume-capabilities.ts';

/** What the RPCs of the Controller service work with. */
export interface ControllerContext {
  disks: DiskService;
  locks: OperationLocks;
}

export function controllerMethods(context: ControllerContext): RpcMethods<ControllerService> {
  return {
    controllerGetCapabilities,
    createVolume: (request) => createVolume(request, context),
    deleteVolume: (request) => deleteVolume(request, context),
    validateVolumeCapabilities: (request) => validateVolumeCapabilities(request, context),
    listVolumes: (request) => listVolumes(request, context),
    controllerGetVolume: (request) => getVolume(request, context),
    controllerExpandVolume: (request) => expandVolume(request, context),
    controllerModifyVolume: (request) => modifyVolume(request, context),
    getCapacity: (request) => getCapacity(request, context),
    createSnapshot: (request) => createSnapshot(request, context),
    deleteSnapshot: (request) => deleteSnapshot(request, context),
    listSnapshots: (request) => listSnapshots(request, context),
    getSnapshot: (request) => getSnapshot(request, context),
  };
}
