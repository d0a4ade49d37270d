import { afterAll, expect, it } from 'vitest';
import { systemNamespace } from '../cluster/objects.ts';
import { untilServing } from './installation.ts';
import { conditionOf } from './kubectl.ts';
import { claim, pod } from './objects.ts';
import { stories } from './stories.ts';

stories('a node without a device that disks are attached by', (scene) => {
  const devices = ['/dev/fuse', '/dev/loop-control'];
  const putBack = (device: string) => `if [ -e ${device}.away ]; then mv ${device}.away ${device}; fi`;

  // Of a story that failed, too: all others need them.
  afterAll(async () => {
    const { kubectl, cluster } = scene();
    await cluster.onNode(cluster.workers[0], devices.map(putBack).join('\n'));
    await untilServing(kubectl, cluster.workers);
  });

  it.each(devices)('says that it is %s, and serves its pool as soon as it is there', async (device) => {
    const { kubectl, cluster } = scene();
    const [node] = cluster.workers;
    const ready = async () => {
      const pool = await kubectl.get('diskpool', `default.${node}`);
      return pool && conditionOf(pool, 'Ready');
    };
    const reason = async () => (await ready())?.reason;
    // As after a boot: what the self-test found right once is not asked again before.
    await cluster.onNode(node, `mv ${device} ${device}.away; rm -f /run/lamina/*/data-path.json`);
    const selector = ['--selector', 'app.kubernetes.io/component=node', '--field-selector', `spec.nodeName=${node}`];
    await kubectl.in(systemNamespace).run(['delete', 'pods', ...selector]);
    await expect.poll(reason, { timeout: 120_000, interval: 1000 }).toBe('DeviceMissing');
    expect((await ready())?.message).toContain(`${device} is missing`);
    expect((await ready())?.message).toContain("mount the node's /dev");
    await expect
      .poll(() => kubectl.in('default').eventsOf(`default.${node}`), { timeout: 30_000 })
      .toContain(`${device} is missing`);

    await cluster.onNode(node, putBack(device));
    await expect.poll(reason, { timeout: 60_000, interval: 1000 }).toBe('Serving');
    const name = `after${device.replaceAll('/', '-')}`;
    await kubectl.apply(claim({ name }), pod({ name, claim: name, node }));
    await kubectl.untilReady(name);
  });
});
