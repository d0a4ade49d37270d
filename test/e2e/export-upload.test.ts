import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { systemNamespace } from '../cluster/objects.ts';
import { helm, untilServing } from './installation.ts';
import { isReady, type Kubectl } from './kubectl.ts';
import { root } from './machine.ts';
import { claim, diskImage, pod } from './objects.ts';
import { withForwardedPort } from './port-forward.ts';
import { stories } from './stories.ts';

const people = (namespace: string) =>
  ['export', 'upload'].flatMap((role) => [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: role } },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: role },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: `lamina-${role}` },
      subjects: [{ kind: 'ServiceAccount', name: role, namespace }],
    },
  ]);

const uploaded = diskImage('uploaded', { source: { type: 'upload', upload: {} } });

interface ExportReport {
  address: string;
  serverName: string;
  certificateAuthority: string;
  podName: string;
}

/** Where a node answers people. */
async function exportOf(kubectl: Kubectl, node: string): Promise<ExportReport> {
  const { status } = await kubectl.untilObject('diskpool', `default.${node}`, (pool) => pool.status?.export);
  return status.export as ExportReport;
}

/** Runs `work` with a local address at which the node answers. */
function forwarded<T>(
  kubectl: Kubectl,
  { podName, address }: ExportReport,
  work: (address: string) => Promise<T>,
): Promise<T> {
  const port = Number(address.slice(address.lastIndexOf(':') + 1));
  return withForwardedPort(kubectl.in(systemNamespace), podName, port, work);
}

stories('files to and from people', (scene) => {
  let directory: string;
  let file: string;
  const sums = new Map<string, string>();

  beforeAll(async () => {
    const { kubectl, cluster } = scene();
    directory = mkdtempSync(path.join(tmpdir(), 'lamina-export-'));
    file = path.join(directory, 'disk.raw');
    // Data, and what reads as zeroes.
    writeFileSync(file, Buffer.concat([randomBytes(24 * MiB), Buffer.alloc(40 * MiB)]));
    sums.set('file', createHash('sha256').update(readFileSync(file)).digest('hex'));
    await helm(kubectl, 'upgrade', { set: ['export.enabled=true'] });
    await untilServing(kubectl, cluster.workers);
    await kubectl.apply(...people(kubectl.namespace));
  }, 300_000);
  afterAll(async () => {
    rmSync(directory, { recursive: true, force: true });
    await helm(scene().kubectl, 'upgrade');
    await untilServing(scene().kubectl, scene().cluster.workers);
  }, 300_000);

  /** `kubectl lamina`, as a person runs it. */
  const lamina = (...args: string[]) =>
    execa(path.join(root, 'bin/kubectl-lamina'), [...args, '--namespace', scene().kubectl.namespace], {
      env: { KUBECONFIG: scene().kubectl.kubeconfig },
      timeout: 180_000,
    });

  it('is uploaded by kubectl lamina, and a claim starts from it', { timeout: 300_000 }, async () => {
    const { kubectl } = scene();
    await kubectl.apply(uploaded);
    const waiting = await kubectl.untilObject('diskimage', 'uploaded', (image) =>
      JSON.stringify(image.status ?? {}).includes('WaitingForUpload'),
    );
    const node = await exportOf(kubectl, waiting.spec.nodeName);
    await forwarded(kubectl, node, (address) =>
      lamina('upload', file, 'uploaded', '--service-account', 'upload', '--address', address),
    );
    await kubectl.untilObject('diskimage', 'uploaded', isReady);
    await kubectl.apply(
      claim({ name: 'heir', volumeMode: 'Block', image: 'uploaded' }),
      pod({ name: 'heir', claim: 'heir', block: true }),
    );
    await kubectl.untilReady('heir');
    const sum = await kubectl.inPod('heir', `head -c ${64 * MiB} /dev/data | sha256sum | cut -d' ' -f1`);
    expect(sum.trim()).toBe(sums.get('file'));
  });

  it('is exported by kubectl lamina with the same bytes', { timeout: 300_000 }, async () => {
    const { kubectl } = scene();
    const { spec } = (await kubectl.get('diskimage', 'uploaded')) ?? { spec: {} };
    const node = await exportOf(kubectl, spec.nodeName);
    const out = path.join(directory, 'out.raw');
    const how = ['--service-account', 'export', '--format', 'raw', '-o', out];
    await forwarded(kubectl, node, (address) => lamina('export', 'uploaded', ...how, '--address', address));
    expect(createHash('sha256').update(readFileSync(out)).digest('hex')).toBe(sums.get('file'));
  });

  it('is taken out of a VolumeSnapshot by a pod with curl and a token, from the node that has it', {
    timeout: 300_000,
  }, async () => {
    const { kubectl, cluster } = scene();
    await kubectl.inPod('heir', 'printf snapshotted | dd of=/dev/data conv=notrunc,fsync status=none');
    await kubectl.snapshot('backup', 'heir');
    const volume = await kubectl.volumeOf('heir');
    const { spec } = (await kubectl.in(systemNamespace).get('diskimage', volume)) ?? { spec: {} };
    const other = cluster.workers.find((name) => name !== spec.nodeName) ?? '';
    const token = (await kubectl.run(['create', 'token', 'export'])).trim();
    await kubectl.apply(pod({ name: 'backup' }));
    await kubectl.untilReady('backup');
    const ask = async (node: string, ...args: string[]) => {
      const { address, serverName, certificateAuthority } = await exportOf(kubectl, node);
      const url = `https://${serverName}/v1/namespaces/${kubectl.namespace}/volumesnapshots/backup/disk.raw`;
      return kubectl.inPod(
        'backup',
        [
          `cat >/tmp/ca.pem <<'END'\n${certificateAuthority}END`,
          `curl -sS --cacert /tmp/ca.pem --connect-to '::${address}' -w '\\n%{http_code}' ${args.join(' ')} '${url}'`,
        ].join('\n'),
      );
    };
    const bearer = `-H 'Authorization: Bearer ${token}'`;
    expect(await ask(spec.nodeName, bearer, '--range 0-10')).toBe('snapshotted\n206');
    expect(await ask(other, bearer)).toMatch(new RegExp(`"nodeName":"${spec.nodeName}".*\\n421$`));
    expect(await ask(spec.nodeName)).toMatch(/\n401$/);
    const upload = (await kubectl.run(['create', 'token', 'upload'])).trim();
    expect(await ask(spec.nodeName, `-H 'Authorization: Bearer ${upload}'`)).toMatch(/\n403$/);
  });
});
