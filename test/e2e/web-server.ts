import { until } from '../cluster/until.ts';
import type { Kubectl } from './kubectl.ts';
import { pod } from './objects.ts';

const port = 8080;

/** A pod without a volume that fills /srv/www by a shell script, and serves that by HTTP. @returns its origin */
export async function startWebServer(
  kubectl: Kubectl,
  name: string,
  fill: string,
  place: { image?: string; node?: string } = {},
): Promise<string> {
  const script = `mkdir -p /srv/www\n${fill}\ntouch /srv/ready\nexec busybox httpd -f -vv -p ${port} -h /srv/www`;
  await kubectl.apply(pod({ name, script, ...place }));
  await kubectl.untilReady(name);
  const lookForMark = () => kubectl.inPod(name, 'test -e /srv/ready && echo there || true');
  const timeoutMs = 120_000;
  await until(`${name} has what it serves`, async () => (await lookForMark()) || undefined, { timeoutMs });
  return originOf(kubectl, name);
}

/** Where such a pod is reached from the cluster. */
export async function originOf(kubectl: Kubectl, name: string): Promise<string> {
  const { status } = (await kubectl.get('pod', name)) ?? {};
  return `http://${status?.podIP}:${port}`;
}
