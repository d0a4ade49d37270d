import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { selfSignedCertificate } from '../../src/lib/certificate.ts';
import { sha256 } from '../fakes/image-registry.ts';
import { digestOfHeir } from './heirs.ts';
import { conditionOf, type Kubectl } from './kubectl.ts';
import { diskImage, importRights, pod } from './objects.ts';
import { withForwardedPort } from './port-forward.ts';
import { stories } from './stories.ts';

const user = 'reader';
const password = 'only-for-this-story';
const registryPort = 5000;

/** Debian's docker-registry, which answers by TLS to who has logged in. */
const script = `
until [ -e /srv/certified ]; do sleep 0.2; done
echo "${user}:$(mkpasswd --method=bcrypt '${password}')" >/srv/htpasswd
cat >/srv/config.yml <<'END'
version: 0.1
storage: { filesystem: { rootdirectory: /srv/registry } }
http: { addr: ":${registryPort}", tls: { certificate: /srv/certificate.pem, key: /srv/key.pem } }
auth: { htpasswd: { realm: images, path: /srv/htpasswd } }
END
exec docker-registry serve /srv/config.yml
`;

/** @returns the certificate of the registry, and where pods reach it */
async function startRegistry(kubectl: Kubectl): Promise<{ certificate: string; host: string }> {
  await kubectl.apply(pod({ name: 'registry', script }));
  await kubectl.untilReady('registry');
  const address: string = (await kubectl.get('pod', 'registry'))?.status.podIP;
  const { certificate, key } = await selfSignedCertificate({
    commonName: 'registry',
    names: [address],
    now: new Date(),
    lifetimeMs: 3_600_000,
  });
  await kubectl.inPod(
    'registry',
    `cat >/srv/certificate.pem <<'END'\n${certificate}END\ncat >/srv/key.pem <<'END'\n${key}END\ntouch /srv/certified`,
  );
  return { certificate, host: `${address}:${registryPort}` };
}

stories('a disk image in a registry', (scene) => {
  let directory: string;
  let content: Buffer;
  /** Where it is, for pods. */
  let repository: string;
  let pinned: string;

  beforeAll(async () => {
    const { kubectl } = scene();
    directory = mkdtempSync(path.join(tmpdir(), 'lamina-registry-'));
    content = Buffer.concat([randomBytes(24 * MiB), Buffer.alloc(40 * MiB)]);
    const raw = path.join(directory, 'raw');
    writeFileSync(raw, content);
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, path.join(directory, 'disk.qcow2')]);
    writeFileSync(path.join(directory, 'Dockerfile'), 'FROM scratch\nADD disk.qcow2 /disk/\n');
    const { certificate, host } = await startRegistry(kubectl);
    repository = `${host}/images/golden`;
    pinned = await withForwardedPort(kubectl, 'registry', registryPort, (address) =>
      push(`${address}/images/golden:1`),
    );
    await kubectl.apply({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'registry-ca' },
      data: { 'ca.crt': certificate },
    });
    const login = [`--docker-server=${host}`, `--docker-username=${user}`, `--docker-password=${password}`];
    await kubectl.run(['create', 'secret', 'docker-registry', 'login', ...login]);
  }, 300_000);
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  /** As somebody makes a containerDisk. @returns the digest of its manifest */
  async function push(reference: string): Promise<string> {
    const docker = (args: readonly string[], input = '') =>
      execa('docker', args, { env: { DOCKER_CONFIG: path.join(directory, 'docker') }, input });
    const server = reference.slice(0, reference.indexOf('/'));
    await docker(['build', '--quiet', '--tag', reference, directory]);
    try {
      await docker(['login', '--username', user, '--password-stdin', server], password);
      const { stdout } = await docker(['push', reference]);
      return /digest: (sha256:[0-9a-f]{64})/.exec(stdout)?.[1] ?? expect.fail(stdout);
    } finally {
      await docker(['image', 'rm', reference]);
    }
  }

  const imported = (name: string, image: string, more: object = {}) => {
    const registry = { image, certificateAuthority: 'registry-ca', pullSecret: 'login', ...more };
    return diskImage(name, { source: { type: 'registry', registry } });
  };

  it('is imported by who may read the Secret, and volumes start from it', { timeout: 300_000 }, async () => {
    const { kubectl } = scene();
    await kubectl.apply(imported('golden', `${repository}:1`));
    await kubectl.untilSaid('diskimage', 'golden', 'lamina-import');
    await kubectl.apply(importRights);
    await kubectl.run(['wait', 'diskimage/golden', '--for=condition=Ready', '--timeout=110s']);
    expect((await kubectl.get('diskimage', 'golden'))?.status).toMatchObject({ digest: pinned, virtualSize: '64Mi' });
    expect(await digestOfHeir(kubectl, 'golden', content.length)).toBe(sha256(content));
    await kubectl.remove('diskimage', 'golden');
  });

  it('is the one that is pinned by its digest', { timeout: 180_000 }, async () => {
    const { kubectl } = scene();
    await kubectl.apply(imported('pinned', `${repository}@${pinned}`, { path: '/disk/disk.qcow2' }));
    await kubectl.run(['wait', 'diskimage/pinned', '--for=condition=Ready', '--timeout=110s']);
    expect(await digestOfHeir(kubectl, 'pinned', content.length)).toBe(sha256(content));
    await kubectl.remove('diskimage', 'pinned');
  });

  it.each([
    ['without a login', ':1', { pullSecret: undefined }, 'login'],
    ['of another path', ':1', { path: '/disk/other.qcow2' }, '/disk/other.qcow2'],
    ['that is not there', ':2', {}, 'manifests/2 answers 404'],
  ])('%s is refused with a sentence', async (_, suffix, more, words) => {
    const { kubectl } = scene();
    await kubectl.apply(imported('refused', repository + suffix, more));
    await kubectl.untilObject('diskimage', 'refused', (image) => {
      const ready = conditionOf(image, 'Ready');
      return ready?.status === 'False' && ready.reason !== 'Importing' && (ready.message ?? '').includes(words);
    });
    await kubectl.remove('diskimage', 'refused');
  });
});
