import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { claim, pod } from './objects.ts';
import { isReady } from './kubectl.ts';
import { stories } from './stories.ts';
import { expectWritten, startWriter } from './writer.ts';

const awayMs = 60_000;

stories('an API server that is away for a minute', (scene) => {
  it('stops no pod from using its volume, and everything goes on when it is back', { timeout: 600_000 }, async () => {
    const { kubectl, cluster } = scene();
    const node = await startWriter(kubectl, { name: 'used' });
    // Without an API server there is no kubectl exec: files of the pod are looked at by way of its process.
    const inside = (script: string) =>
      cluster.onNode(
        node,
        `for process in /proc/[0-9]*; do if [ -e "$process/root/data/log" ]; then cd "$process/root/tmp"; break; fi; done; ${script}`,
      );
    const done = async () => Number(await inside('cat done || echo 0'));
    const controlPlane = `${cluster.name}-control-plane`;
    const manifest = '/etc/kubernetes/manifests/kube-apiserver.yaml';
    await cluster.onNode(controlPlane, `mv ${manifest} /root/`);
    try {
      const isAway = () =>
        kubectl.run(['get', '--raw', '/readyz'], { timeoutMs: 10_000 }).then(
          () => false,
          () => true,
        );
      await expect.poll(isAway, { timeout: 60_000, interval: 500 }).toBe(true);
      const before = await done();
      await delay(awayMs);
      expect(await done()).toBeGreaterThan(before + 100);
      expect(await inside('cat errors 2>/dev/null | wc -l')).toBe('0');
    } finally {
      await cluster.onNode(controlPlane, `mv /root/kube-apiserver.yaml ${manifest}`);
      const isBack = () => kubectl.run(['get', '--raw', '/readyz']).catch(() => '');
      await expect.poll(isBack, { timeout: 120_000, interval: 1000 }).toBe('ok');
    }
    await kubectl.apply(claim({ name: 'after' }), pod({ name: 'after', claim: 'after' }));
    // Kubernetes' own scheduler and controllers have ended meanwhile, and are restarted with growing pauses.
    await kubectl.untilObject('pod', 'after', isReady, 300_000);
    await kubectl.snapshot('after', 'used');
    await expectWritten(kubectl, 'used', await done());
  });
});
