import { annotations } from '../api/names.ts';
import type { DiskImage } from '../api/objects.ts';
import type { EventSubject } from '../kube/events/events.ts';
import { refOf } from '../kube/objects.ts';

/** How csi-provisioner names volumes: after the uid of the claim. */
const volumeName = /^pvc-(?<uid>[0-9a-f-]{36})$/;

/** The PersistentVolumeClaim that a DiskImage is the volume of, to tell people there what happens to it. */
export function claimSubject({ metadata }: DiskImage): EventSubject | undefined {
  const claim = metadata.annotations[annotations.claim];
  const uid = volumeName.exec(metadata.annotations[annotations.csiName] ?? '')?.groups?.['uid'];
  if (claim === undefined || uid === undefined) return undefined;
  return { apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: { ...refOf(claim), uid } };
}
