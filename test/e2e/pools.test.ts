import { afterAll, expect, it } from 'vitest';
import { helm, restartEngines, untilServing } from './installation.ts';
import { conditionOf } from './kubectl.ts';
import { claim, pod } from './objects.ts';
import { stories } from './stories.ts';

/** Where the pools of the story are on the nodes. */
const base = '/var/lib/lamina-story';
const names = ['missing', 'in-memory', 'foreign', 'small'];

stories('pools that cannot be served, or are full', (scene) => {
  afterAll(async () => {
    const { kubectl, cluster } = scene();
    await helm(kubectl, 'upgrade');
    await untilServing(kubectl, cluster.workers);
    for (const node of cluster.workers) {
      for (const name of names) await kubectl.remove('diskpool', `${name}.${node}`);
      await cluster.onNode(node, `umount ${base}/* || true; rm -rf ${base} ${base}.img`);
    }
    await kubectl.remove('storageclass', 'lamina-story-small');
  });

  it('say so in their DiskPool and in events, and the other pools of the node are served', async () => {
    const { kubectl, cluster } = scene();
    const [node] = cluster.workers;
    await cluster.onNode(
      node,
      `mkdir -p ${base}/in-memory ${base}/foreign ${base}/small
       mount -t tmpfs none ${base}/in-memory
       truncate -s 200M ${base}.img; mkfs.ext4 -q ${base}.img; mount -o loop ${base}.img ${base}/small`,
    );
    // A pool of this cluster that is told to be another's.
    await cluster.onNode(
      node,
      `cd ${base}/foreign; mkdir layers disks snapshots images incoming
       sed 's/"id": *"[^"]*"/"id": "2f0c7a52-3a53-4b0e-9d35-6a3a5a3a1c22"/' /var/lib/lamina/pool.json >pool.json
       sed 's/"cluster": *"[^"]*"/"cluster": "11111111-2222-3333-4444-555555555555"/' /var/lib/lamina/cluster.json >${base}/foreign/cluster.json`,
    );
    const set = [...names.entries()].flatMap(([index, name]) => {
      const at = `pools[${index + 1}]`;
      return [`${at}.name=${name}`, `${at}.path=${base}/${name}`, `${at}.create=false`];
    });
    await helm(kubectl, 'upgrade', { set: ['pools[0].name=default', 'pools[0].path=/var/lib/lamina', ...set] });
    await untilServing(kubectl, cluster.workers);
    const messageOfSmall = async () => {
      const pool = await kubectl.get('diskpool', `small.${node}`);
      return pool && conditionOf(pool, 'Ready')?.message;
    };
    // What the engine has mounted does not change while it runs.
    await expect.poll(messageOfSmall, { timeout: 90_000, interval: 1000 }).toContain('restart that');
    await restartEngines(kubectl);
    const reasons = async () => {
      const pools = await Promise.all(names.map((name) => kubectl.get('diskpool', `${name}.${node}`)));
      return pools.map((pool) => pool && conditionOf(pool, 'Ready')?.reason);
    };
    await expect
      .poll(reasons, { timeout: 90_000, interval: 1000 })
      .toEqual(['PoolMissing', 'PoolUnsupported', 'PoolForeign', 'Serving']);
    for (const name of ['missing', 'in-memory', 'foreign']) {
      expect(await kubectl.in('default').eventsOf(`${name}.${node}`)).toContain(`${base}/${name}`);
    }
  });

  it('answer with a sentence where they are full, and go on when there is room', async () => {
    const { kubectl, cluster } = scene();
    const [node] = cluster.workers;
    await kubectl.apply({
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: 'lamina-story-small' },
      provisioner: 'csi.lamina.storage',
      parameters: { pool: 'small' },
      volumeBindingMode: 'Immediate',
    });
    await cluster.onNode(
      node,
      `fallocate -l 170M ${base}/small/filler || dd if=/dev/zero of=${base}/small/filler bs=1M || true`,
    );
    const isFull = async () => {
      const pool = await kubectl.get('diskpool', `small.${node}`);
      return pool && conditionOf(pool, 'SpaceAvailable')?.status;
    };
    await expect.poll(isFull, { timeout: 90_000, interval: 1000 }).toBe('False');
    const events = () => kubectl.in('default').eventsOf(`small.${node}`);
    await expect.poll(events, { timeout: 30_000 }).toContain('BelowCriticalMark');
    await kubectl.apply(claim({ name: 'waits', storageClassName: 'lamina-story-small', size: '64Mi' }));
    await expect
      .poll(() => kubectl.eventsOf('waits'), { timeout: 60_000 })
      .toMatch(/no node can have a volume.*room for 0 B/);
    await cluster.onNode(node, `rm ${base}/small/filler`);
    await kubectl.apply(pod({ name: 'waits', claim: 'waits' }));
    await kubectl.untilReady('waits');
    await kubectl.remove('pod', 'waits');
    await kubectl.remove('pvc', 'waits');
  });
});
