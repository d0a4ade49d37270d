import { randomBytes } from 'node:crypto';
import { afterAll, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { sha256 } from '../fakes/image-registry.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { digestOfHeir } from './heirs.ts';
import { helm, restartEngines, untilServing } from './installation.ts';
import { conditionOf } from './kubectl.ts';
import { claim, diskImage, pod } from './objects.ts';
import { stories } from './stories.ts';
import { errorsOf, expectWritten, progressOf, startWriter } from './writer.ts';

/** Where the pools of the story are on the nodes. */
const base = '/var/lib/lamina-story';
const names = ['missing', 'in-memory', 'foreign', 'small'];

stories('pools that cannot be served, or are full', (scene) => {
  afterAll(async () => {
    const { kubectl, cluster } = scene();
    await helm(kubectl, 'upgrade');
    await restartEngines(kubectl);
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

  it('have writers wait where they are nearly full, who go on without an error when there is room', {
    timeout: 400_000,
  }, async () => {
    const { kubectl, cluster } = scene();
    const [node] = cluster.workers;
    await startWriter(kubectl, { name: 'waits', storageClassName: 'lamina-story-small', size: '64Mi' });
    // What root alone may use is left for what is on its way.
    await cluster.onNode(
      node,
      `room=$(df --output=avail -B1 ${base}/small | tail -n 1); fallocate -l $((room - ${MiB})) ${base}/small/filler`,
    );
    const space = async () => {
      const pool = await kubectl.get('diskpool', `small.${node}`);
      return pool && conditionOf(pool, 'SpaceAvailable')?.reason;
    };
    await expect.poll(space, { timeout: 60_000, interval: 1000 }).toBe('WritesPaused');
    await expect
      .poll(() => kubectl.eventsOf('waits'), { timeout: 60_000 })
      .toContain('wait, as its pool is nearly full');
    const before = Number(await kubectl.inPod('waits', 'wc -l </data/log'));
    await cluster.onNode(node, `rm ${base}/small/filler`);
    await progressOf(kubectl, 'waits');
    expect(await errorsOf(kubectl, 'waits')).toBe(0);
    await expectWritten(kubectl, 'waits', before);
    await expect.poll(space, { timeout: 60_000, interval: 1000 }).toBe('AboveMarks');
    await kubectl.remove('pod', 'waits');
    await kubectl.remove('pvc', 'waits');
  });

  it('give back what an import has taken that filled them, which begins anew when there is room', {
    timeout: 300_000,
  }, async () => {
    const { kubectl, cluster } = scene();
    const [nodeName] = cluster.workers;
    const content = randomBytes(64 * MiB);
    const server = await ImageServer.start(await cluster.hostAddress());
    try {
      const url = server.put('/disk.raw', content);
      const { promise: filled, resolve: goOn } = Promise.withResolvers<void>();
      server.answer = (_, response) => {
        if (server.requests.length > 1) return false;
        response.writeHead(200, { 'content-length': content.length });
        response.write(content.subarray(0, 16 * MiB));
        void filled.then(() => response.end(content.subarray(16 * MiB)));
        return true;
      };
      const http = { url, checksum: sha256(content) };
      await kubectl.apply(diskImage('fills', { nodeName, pool: 'small', source: { type: 'http', http } }));
      await kubectl.untilObject('diskimage', 'fills', ({ status }) => Number(status?.importedBytes ?? 0) > 0);
      await cluster.onNode(
        nodeName,
        `room=$(df --output=avail -B1 ${base}/small | tail -n 1); fallocate -l $((room - ${8 * MiB})) ${base}/small/filler`,
      );
      goOn();
      const full = await kubectl.untilObject(
        'diskimage',
        'fills',
        (image) => conditionOf(image, 'Ready')?.reason === 'PoolFull',
      );
      expect(conditionOf(full, 'Ready')?.message).toContain('small');
      const files = () => cluster.onNode(nodeName, `cd ${base}/small; find incoming layers tmp -mindepth 1`);
      await expect.poll(files).toBe('');
      await cluster.onNode(nodeName, `rm ${base}/small/filler`);
      await kubectl.run(['wait', 'diskimage/fills', '--for=condition=Ready', '--timeout=110s']);
      const place = { storageClassName: 'lamina-story-small', size: '64Mi' };
      expect(await digestOfHeir(kubectl, 'fills', content.length, place)).toBe(sha256(content));
      await kubectl.remove('diskimage', 'fills');
    } finally {
      await server.close();
    }
  });
});
