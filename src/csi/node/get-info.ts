import type { NodeGetInfoResponse } from '../../gen/csi.ts';
import { topologyOf } from '../validation/topology.ts';
import type { NodeContext } from './node.ts';

export async function getInfo({ node }: NodeContext): Promise<NodeGetInfoResponse> {
  return { nodeId: node.nodeName, maxVolumesPerNode: 0n, accessibleTopology: topologyOf(node.nodeName) };
}
