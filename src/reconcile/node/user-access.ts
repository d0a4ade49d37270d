import { apiGroup } from '../../api/names.ts';
import type { ResourceAccess } from '../../kube/client/token-review.ts';
import { volumeSnapshotType } from '../../kube/kinds/storage-kinds.ts';
import type { UserRequest } from '../../transfer/users/user-request.ts';

/** What RBAC has to allow for a request: to `get` the subresource `export`, or to `update` the subresource `upload`. */
export function accessOf({ action, resource, namespace, name }: UserRequest): ResourceAccess {
  const group = resource === 'volumesnapshots' ? volumeSnapshotType.group : apiGroup;
  const verb = action === 'export' ? 'get' : 'update';
  return { group, resource, subresource: action, namespace, name, verb };
}
