import { type ControllerGetCapabilitiesResponse, ControllerServiceCapability_RPC_Type as Rpc } from '../../gen/csi.ts';

export const controllerCapabilities = [
  'CREATE_DELETE_VOLUME',
  'LIST_VOLUMES',
  'GET_VOLUME',
  'GET_CAPACITY',
  'CLONE_VOLUME',
  'EXPAND_VOLUME',
  'MODIFY_VOLUME',
  'SINGLE_NODE_MULTI_WRITER',
  'CREATE_DELETE_SNAPSHOT',
  'LIST_SNAPSHOTS',
  'GET_SNAPSHOT',
] as const satisfies (keyof typeof Rpc)[];

export async function controllerGetCapabilities(): Promise<ControllerGetCapabilitiesResponse> {
  return {
    capabilities: controllerCapabilities.map((name) => ({ type: { $case: 'rpc', value: { type: Rpc[name] } } })),
  };
}
