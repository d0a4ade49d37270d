import path from 'node:path';
import { execa } from 'execa';
import { expect, it } from 'vitest';
import { claim, diskImage, pod } from './objects.ts';
import { stories } from './stories.ts';
import { originOf, startWebServer } from './web-server.ts';

const debianImage = 'docker.io/library/lamina-e2e-debian:1';

/** The container's own Debian as the file system of a disk, without what only boots it. */
const fill = `
mkdir /srv/root
cp -ax /bin /etc /lib /lib64 /sbin /usr /var /srv/root/
mkdir /srv/root/dev /srv/root/proc /srv/root/sys /srv/root/run /srv/root/tmp /srv/root/root
rm -f /srv/root/usr/bin/qemu-system-*
echo golden >/srv/root/etc/hostname
printf '%s / ext4 defaults 0 1\\n' /dev/vda >/srv/root/etc/fstab
mke2fs -q -t ext4 -d /srv/root /srv/www/debian.raw 2G
sha256sum </srv/www/debian.raw | cut -d' ' -f1 >/srv/www/digest
`;

/** Without hardware of its own to run on it takes a minute or more. */
const bootSeconds = 400;
const boot = `
timeout ${bootSeconds} qemu-system-x86_64 -machine q35,accel=tcg -cpu max -m 1G -display none -monitor none -no-reboot \
  -kernel /vmlinuz -initrd /initrd.img -append 'root=/dev/vda rw console=ttyS0 systemd.log_color=0' \
  -drive file=/dev/data,format=raw,if=virtio,cache=none,aio=native -serial file:/tmp/console &
qemu=$!
until grep -q 'Welcome to Debian GNU/Linux' /tmp/console; do
  kill -0 $qemu || { cat /tmp/console; exit 1; }
  sleep 1
done
kill $qemu
cat /tmp/console
`;

stories('a virtual machine', (scene) => {
  it('boots from a disk that started from a golden image of Debian', { timeout: 900_000 }, async () => {
    const { kubectl, cluster } = scene();
    const directory = path.join(import.meta.dirname, 'debian-image');
    await execa('docker', ['build', '--quiet', '--network', 'host', '--tag', debianImage, directory]);
    await cluster.load(debianImage);
    await startWebServer(kubectl, 'web', fill, { image: debianImage });
    const digest = (await kubectl.inPod('web', 'cat /srv/www/digest')).trim();
    const url = `${await originOf(kubectl, 'web')}/debian.raw`;
    await kubectl.apply(diskImage('debian', { source: { type: 'http', http: { url, checksum: `sha256:${digest}` } } }));
    await kubectl.run(['wait', 'diskimage/debian', '--for=condition=Ready', '--timeout=110s']);
    await kubectl.apply(
      claim({ name: 'root', size: '4Gi', volumeMode: 'Block', image: 'debian' }),
      pod({ name: 'machine', claim: 'root', block: true, image: debianImage }),
    );
    await kubectl.untilReady('machine');
    const console = await kubectl.inPod('machine', boot, (bootSeconds + 60) * 1000);
    expect(console).toContain('Hostname set to <golden>');
    await kubectl.remove('pod', 'machine');
    await kubectl.remove('pvc', 'root');
    await kubectl.remove('diskimage', 'debian');
  });
});
