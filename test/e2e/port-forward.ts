import { execa } from 'execa';
import { until } from '../cluster/until.ts';
import { freePort } from '../free-port.ts';
import type { Kubectl } from './kubectl.ts';

/** Runs `work` with a local address at which a port of a pod answers, as pods cannot be reached from here. */
export async function withForwardedPort<T>(
  { kubeconfig, namespace }: Kubectl,
  pod: string,
  port: number,
  work: (address: string) => Promise<T>,
): Promise<T> {
  const local = await freePort();
  const forward = execa('kubectl', ['--namespace', namespace, 'port-forward', `pod/${pod}`, `${local}:${port}`], {
    env: { KUBECONFIG: kubeconfig },
    reject: false,
    buffer: false,
  });
  let said = '';
  forward.stdout.on('data', (text: Buffer) => (said += text.toString()));
  try {
    await until('the port is forwarded', async () => said.includes('Forwarding from') || undefined);
    return await work(`127.0.0.1:${local}`);
  } finally {
    forward.kill();
    await forward;
  }
}
