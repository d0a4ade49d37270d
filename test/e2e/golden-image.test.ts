import { expect, it } from 'vitest';
import { claim, diskImage, pod } from './objects.ts';
import type { Kubectl } from './kubectl.ts';
import { stories } from './stories.ts';
import { layersSent } from './transfers.ts';
import { originOf, startWebServer } from './web-server.ts';

/** How many disks start from the image at once. */
const heirs = Array.from({ length: 10 }, (_, index) => `heir-${index}`);

/** Makes a file system image of the container's own Debian. */
const fill = `
mkdir /srv/root
cp -ax /bin /etc /lib /sbin /usr /var /srv/root/
(cd /srv/root && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum) >/srv/www/content
mke2fs -q -t ext4 -d /srv/root /srv/www/debian.raw 768M
sha256sum </srv/www/debian.raw | cut -d' ' -f1 >/srv/www/digest
`;

/** The sum over the files of the image that a volume has. */
const sum = `(cd /data && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)`;

const golden = (url: string, digest: string, more: object = {}) =>
  diskImage('debian', { source: { type: 'http', http: { url, checksum: `sha256:${digest}` } }, ...more });

const heir = (name: string) => claim({ name, size: '2Gi', image: 'debian' });

/** Of what the pod `web` serves. */
async function served(kubectl: Kubectl): Promise<{ origin: string; digest: string; content: string }> {
  return {
    origin: await originOf(kubectl, 'web'),
    digest: (await kubectl.inPod('web', 'cat /srv/www/digest')).trim(),
    content: (await kubectl.inPod('web', 'cat /srv/www/content')).trim(),
  };
}

stories('a golden image', (scene) => {
  it('is imported once, ten disks start from it, and they live on when it is gone', { timeout: 600_000 }, async () => {
    const { kubectl } = scene();
    await startWebServer(kubectl, 'web', fill);
    const { origin, digest, content } = await served(kubectl);
    // Claims may come first.
    await kubectl.apply(heir('early'));
    await kubectl.apply(pod({ name: 'early', claim: 'early' }));
    await expect.poll(() => kubectl.eventsOf('early'), { timeout: 60_000 }).toContain('There is no DiskImage');
    await kubectl.apply(golden(`${origin}/debian.raw`, digest));
    await kubectl.run(['wait', 'diskimage/debian', '--for=condition=Ready', '--timeout=120s']);
    expect((await kubectl.get('diskimage', 'debian'))?.status).toMatchObject({
      virtualSize: '768Mi',
      digest: `sha256:${digest}`,
    });
    await kubectl.untilReady('early');
    for (const name of heirs) await kubectl.apply(heir(name), pod({ name, claim: name }));
    for (const name of heirs) await kubectl.untilReady(name);
    for (const name of heirs) expect((await kubectl.inPod(name, sum)).trim(), name).toBe(content);
    // The file system has grown to what was asked for.
    expect(Number(await kubectl.inPod('heir-0', 'df --output=size -m /data | tail -n 1'))).toBeGreaterThan(1800);
    await kubectl.inPod('heir-0', 'echo changed >/data/etc/hostname; sync');
    expect((await kubectl.inPod('heir-1', sum)).trim()).toBe(content);
    await kubectl.remove('diskimage', 'debian');
    await kubectl.remove('pod', 'heir-2');
    await kubectl.apply(pod({ name: 'heir-2', claim: 'heir-2' }));
    await kubectl.untilReady('heir-2');
    expect((await kubectl.inPod('heir-2', sum)).trim()).toBe(content);
    for (const name of ['early', ...heirs]) await kubectl.remove('pod', name);
    for (const name of ['early', ...heirs]) await kubectl.remove('pvc', name);
  });

  it('starts disks on other nodes as well, for which it is fetched once', { timeout: 600_000 }, async () => {
    const { kubectl, cluster } = scene();
    const [here, there] = cluster.workers;
    const { origin, digest, content } = await served(kubectl);
    await kubectl.apply(golden(`${origin}/debian.raw`, digest, { nodeName: here }));
    await kubectl.run(['wait', 'diskimage/debian', '--for=condition=Ready', '--timeout=120s']);
    const far = heirs.map((name) => `far-${name}`);
    for (const name of far) await kubectl.apply(heir(name), pod({ name, claim: name, node: there }));
    for (const name of far) await kubectl.untilReady(name);
    for (const name of far) expect((await kubectl.inPod(name, sum)).trim(), name).toBe(content);
    const sent = (await layersSent(kubectl, here)).map(({ layer }) => layer);
    expect(sent.length).toBeGreaterThan(0);
    expect(sent).toEqual([...new Set(sent)]);
    for (const name of far) await kubectl.remove('pod', name);
    for (const name of far) await kubectl.remove('pvc', name);
    await kubectl.remove('diskimage', 'debian');
  });

  it('takes a volume to another node', { timeout: 300_000 }, async () => {
    const { kubectl, cluster } = scene();
    const [here, there] = cluster.workers;
    await kubectl.apply(claim({ name: 'stays' }), pod({ name: 'stays', claim: 'stays', node: here }));
    await kubectl.untilReady('stays');
    await kubectl.inPod('stays', 'echo moved >/data/file; sync');
    await kubectl.snapshot('to-move', 'stays');
    const source = { type: 'volumeSnapshot', volumeSnapshot: { name: 'to-move' } };
    await kubectl.apply(diskImage('moved', { nodeName: there, source }));
    await kubectl.run(['wait', 'diskimage/moved', '--for=condition=Ready', '--timeout=60s']);
    await kubectl.remove('pod', 'stays');
    await kubectl.remove('volumesnapshot', 'to-move');
    await kubectl.remove('pvc', 'stays');
    await kubectl.apply(claim({ name: 'moved', image: 'moved' }), pod({ name: 'moved', claim: 'moved', node: there }));
    await kubectl.untilReady('moved');
    expect((await kubectl.inPod('moved', 'cat /data/file')).trim()).toBe('moved');
    await kubectl.remove('pod', 'moved');
  });

  it('of another checksum is refused for good, with both', async () => {
    const { kubectl } = scene();
    await kubectl.apply(golden(`${await originOf(kubectl, 'web')}/debian.raw`, '0'.repeat(64)));
    await kubectl.untilObject('diskimage', 'debian', (image) =>
      JSON.stringify(image.status).includes('ChecksumMismatch'),
    );
    expect(await kubectl.eventsOf('debian')).toContain('0'.repeat(64));
    await kubectl.remove('diskimage', 'debian');
  });

  it('is made of a volume in use, and of a snapshot of it, without copying', async () => {
    const { kubectl } = scene();
    await kubectl.apply(claim({ name: 'source' }), pod({ name: 'source', claim: 'source' }));
    await kubectl.untilReady('source');
    await kubectl.inPod('source', 'echo golden >/data/file; sync');
    await kubectl.snapshot('before', 'source');
    await kubectl.apply(
      diskImage('of-claim', { source: { type: 'persistentVolumeClaim', persistentVolumeClaim: { name: 'source' } } }),
      diskImage('of-snapshot', { source: { type: 'volumeSnapshot', volumeSnapshot: { name: 'before' } } }),
    );
    for (const name of ['of-claim', 'of-snapshot']) {
      await kubectl.run(['wait', `diskimage/${name}`, '--for=condition=Ready', '--timeout=60s']);
    }
    await kubectl.remove('pod', 'source');
    await kubectl.remove('pvc', 'source');
    for (const name of ['of-claim', 'of-snapshot']) {
      await kubectl.apply(claim({ name, image: name }), pod({ name, claim: name }));
      await kubectl.untilReady(name);
      expect((await kubectl.inPod(name, 'cat /data/file')).trim()).toBe('golden');
    }
    for (const name of ['of-claim', 'of-snapshot']) await kubectl.remove('pod', name);
  });
});
