import { systemNamespace } from '../cluster/objects.ts';
import type { Kubectl } from './kubectl.ts';

/** The layers that a node has sent to others since then, or within the last ten minutes, by its plugin's log, and from which byte on. */
export async function layersSent(
  kubectl: Kubectl,
  nodeName: string,
  since?: Date,
): Promise<{ layer: string; from: number }[]> {
  const system = kubectl.in(systemNamespace);
  const pods = await system.list('pods', '-l', 'app.kubernetes.io/component=node');
  const pod = pods.find(({ spec }) => spec.nodeName === nodeName);
  if (!pod) throw new Error(`there is no node plugin on ${nodeName}`);
  const time = since ? `--since-time=${since.toISOString()}` : '--since=10m';
  const log = await system.run(['logs', pod.metadata.name, '-c', 'node', time]);
  const lines = log.matchAll(/"layer":"([^"]+)","from":(\d+).*sending a layer/g);
  return [...lines].map(([, layer = '', from]) => ({ layer, from: Number(from) }));
}
