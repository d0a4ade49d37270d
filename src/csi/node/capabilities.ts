import { type NodeGetCapabilitiesResponse, NodeServiceCapability_RPC_Type as Rpc } from '../../gen/csi.ts';

export const nodeCapabilities = [
  'STAGE_UNSTAGE_VOLUME',
  'GET_VOLUME_STATS',
  'EXPAND_VOLUME',
  'SINGLE_NODE_MULTI_WRITER',
  'GET_VOLUME_HEALTH',
] as const satisfies (keyof typeof Rpc)[];

export async function nodeGetCapabilities(): Promise<NodeGetCapabilitiesResponse> {
  return { capabilities: nodeCapabilities.map((name) => ({ type: { $case: 'rpc', value: { type: Rpc[name] } } })) };
}
