import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { DiskPool } from '../../src/api/objects.ts';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import { freePort } from '../free-port.ts';
import { lamina } from '../cluster/simulated-node.ts';
import { until } from '../cluster/until.ts';
import { GivingNodes } from './giving-nodes.ts';
import { stories } from './stories.ts';

const exec = promisify(execFile);
const diskBytes = 160 * MiB;

const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces';

stories('files to and from a node', (scene) => {
  const nodes = new GivingNodes(scene);
  let directory: string;
  let file: string;

  beforeAll(async () => {
    directory = mkdtempSync(path.join(tmpdir(), 'lamina-files-'));
    file = path.join(directory, 'disk.raw');
    writeFileSync(file, Buffer.concat([randomBytes(diskBytes - 32 * MiB), Buffer.alloc(32 * MiB)]));
    await nodes.add('gate', 2 * GiB, ['--export-listen', `127.0.0.1:${await freePort()}`, '--export-pod', 'gate-0']);
    await nodes.add('other', GiB, ['--export-listen', `127.0.0.1:${await freePort()}`]);
    const { client } = scene().cluster.kube;
    const { namespace } = scene().user;
    const send = (where: string, body: object) => client.request({ method: 'POST', path: where, body });
    await send(`/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name: 'files' } });
    const rules = [
      { apiGroups: ['lamina.storage'], resources: ['diskimages/export'], verbs: ['get'] },
      { apiGroups: ['snapshot.storage.k8s.io'], resources: ['volumesnapshots/export'], verbs: ['get'] },
      { apiGroups: ['lamina.storage'], resources: ['diskimages/upload'], verbs: ['update'] },
    ];
    await send(`${rbac}/${namespace}/roles`, { metadata: { name: 'files' }, rules });
    await send(`${rbac}/${namespace}/rolebindings`, {
      metadata: { name: 'files' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'files' },
      subjects: [{ kind: 'ServiceAccount', name: 'files', namespace }],
    });
  }, 300_000);
  afterAll(async () => {
    await nodes.removeAll();
    rmSync(directory, { recursive: true, force: true });
  });

  /** `kubectl lamina` with the token of a ServiceAccount that may do it. */
  async function kubectl(...args: string[]): Promise<string> {
    const { user, cluster } = scene();
    const common = ['--namespace', user.namespace, '--service-account', 'files'];
    const { kubeconfig } = cluster.controlPlane;
    const { stderr } = await exec(lamina, ['kubectl', ...args, ...common, '--kubeconfig', kubeconfig]);
    return stderr;
  }

  /** Where a node says that it answers people. */
  async function exportOf(name: string): Promise<NonNullable<DiskPool['status']['export']>> {
    const { diskPools } = scene().kube;
    return until(
      `${name} answers people`,
      async () => (await diskPools.get({ name: `default.${name}` }))?.status.export,
    );
  }

  async function token(): Promise<string> {
    const { user, kube } = scene();
    const spec = { expirationSeconds: 3600 };
    const answer = (await kube.client.request({
      method: 'POST',
      path: `/api/v1/namespaces/${user.namespace}/serviceaccounts/files/token`,
      body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec },
    })) as { status: { token: string } };
    return answer.status.token;
  }

  async function curl(node: string, resource: string, ...args: string[]): Promise<string> {
    const { address, serverName, certificateAuthority } = await exportOf(node);
    const authority = path.join(directory, 'ca.pem');
    writeFileSync(authority, certificateAuthority);
    const how = ['-sS', '--cacert', authority, '--connect-to', `::${address}`];
    const header = `Authorization: Bearer ${await token()}`;
    const url = `https://${serverName}/v1/namespaces/${scene().user.namespace}/${resource}`;
    return (await exec('curl', [...how, '--header', header, ...args, url])).stdout;
  }

  it('a node tells where it answers people, by which name and certificates, and in which pod', async () => {
    expect(await exportOf('gate')).toMatchObject({ serverName: 'gate.node.lamina.storage', podName: 'gate-0' });
  }, 60_000);

  it('an upload goes on after its node plugin was killed in the middle of it', async () => {
    const { user, kube } = scene();
    await user.declareDisk('uploaded', { nodeName: 'gate', source: { type: 'upload', upload: {} } });
    const reasonOf = async () => {
      const image = await kube.diskImages.get(user.at('uploaded'));
      return image?.status.conditions.find(({ type }) => type === 'Ready')?.reason;
    };
    await expect.poll(reasonOf, { timeout: 30_000 }).toBe('WaitingForUpload');
    // The rest of the file never comes, so the upload cannot be over before the kill, however late that is.
    const part = path.join(directory, 'part.raw');
    writeFileSync(part, readFileSync(file).subarray(0, 96 * MiB));
    const stalled = ['--upload-file', part, '--header', `Content-Length: ${diskBytes}`];
    const broken = curl('gate', 'diskimages/uploaded/upload', ...stalled).catch(() => 'broken');
    const received = async () => (await kube.diskImages.get(user.at('uploaded')))?.status.importedBytes ?? 0;
    // More than is recorded at a time.
    await expect.poll(received, { timeout: 30_000, interval: 100 }).toBeGreaterThan(70 * MiB);
    await nodes.get('gate').plugin.kill9();
    expect(await broken).toBe('broken');
    await nodes.get('gate').start();
    await expect.poll(reasonOf, { timeout: 30_000 }).toBe('WaitingForUpload');
    expect(await received()).toBeGreaterThanOrEqual(64 * MiB);
    const said = await kubectl('upload', file, 'uploaded');
    expect(said).toMatch(/^Sending \S+ MiB of /m);
    expect(said).not.toContain(`Sending ${diskBytes / MiB} MiB`);
    expect((await user.diskWith('uploaded', 'Ready')).status).toMatchObject({ virtualSize: diskBytes });
  }, 240_000);

  it('what is exported has the same bytes, as raw and as qcow2', async () => {
    const raw = path.join(directory, 'out.raw');
    await kubectl('export', 'uploaded', '--format', 'raw', '--output', raw);
    expect(readFileSync(raw).equals(readFileSync(file))).toBe(true);
    const qcow2 = path.join(directory, 'out.qcow2');
    await kubectl('export', 'uploaded', '--output', qcow2);
    execFileSync('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', file, qcow2]);
  }, 240_000);

  it('a VolumeSnapshot is exported, whichever node is asked', async () => {
    const { user, kubelet } = scene();
    const { volume } = await user.claimWithPod({ name: 'data', node: 'gate' });
    const mounted = await kubelet('gate').mount(volume);
    writeFileSync(path.join(mounted, 'file'), 'kept');
    await user.snapshot('backup', 'data');
    const asked = await curl('other', 'volumesnapshots/backup/disk.raw', '--write-out', '\n%{http_code}');
    expect(asked).toMatch(/"nodeName":"gate".*\n421$/);
    const raw = path.join(directory, 'backup.raw');
    await kubectl('export', 'volumesnapshot/backup', '--format', 'raw', '--output', raw);
    expect(execFileSync('debugfs', ['-R', 'cat /file', raw], { stdio: ['ignore', 'pipe', 'ignore'] }).toString()).toBe(
      'kept',
    );
    await kubelet('gate').unmount(volume);
    await user.remove('pods', 'data');
    await user.remove('snapshots', 'backup');
    await user.remove('claims', 'data');
    await user.remove('diskImages', 'uploaded');
    await user.gone('diskImages', 'uploaded');
    await user.gone('claims', 'data');
    // The daemon that reads an exported disk ends a while after the last who asked for it.
    await expect.poll(() => nodes.get('gate').leftovers(), { timeout: 60_000 }).toEqual([]);
    await nodes.removeAll();
  }, 240_000);
});
