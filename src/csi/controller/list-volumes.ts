import type { ListVolumesRequest, ListVolumesResponse } from '../../gen/csi.ts';
import { pageOf } from '../validation/paging.ts';
import type { ControllerContext } from './controller.ts';
import { volumeOf } from './messages.ts';

export async function listVolumes(
  request: ListVolumesRequest,
  { disks }: ControllerContext,
): Promise<ListVolumesResponse> {
  const { page, nextToken } = pageOf(await disks.listDisks(), request);
  return { entries: page.map((disk) => ({ volume: volumeOf(disk), status: undefined })), nextToken };
}
