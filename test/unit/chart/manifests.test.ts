import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readConfig } from '../../../src/config/read-config.ts';
import { driverName } from '../../../src/api/names.ts';
import { chartDirectory, helmMissing, lintChart, type Manifest, renderChart } from '../../chart.ts';

const missing = await helmMissing();
beforeEach((context) => {
  if (missing) context.skip(missing);
});

const everything = {
  snapshotController: { enabled: true },
  export: { enabled: true, from: [{ ipBlock: { cidr: '10.0.0.0/8' } }] },
  metrics: {
    readers: [{ namespace: 'monitoring', name: 'prometheus' }],
    serviceMonitor: { enabled: true },
    prometheusRule: { enabled: true },
    grafanaDashboard: { enabled: true },
  },
};

interface Container {
  name: string;
  args?: string[];
  command?: string[];
  image: string;
  env?: { name: string }[];
  resources?: { requests?: object };
  securityContext: {
    privileged?: boolean;
    readOnlyRootFilesystem?: boolean;
    allowPrivilegeEscalation?: boolean;
    capabilities?: { drop: string[] };
  };
  volumeMounts?: { name: string; mountPath: string; mountPropagation?: string }[];
  livenessProbe?: object;
}

function find(manifests: Manifest[], kind: string, name: string): Manifest {
  const found = manifests.find((manifest) => manifest.kind === kind && manifest.metadata.name === name);
  if (!found) throw new Error(`the chart makes no ${kind} ${name}`);
  return found;
}

function containersOf(workload: Manifest): Container[] {
  return (workload['spec'].template?.spec ?? workload['spec']).containers as Container[];
}

function containerOf(manifests: Manifest[], kind: string, name: string): Container {
  const [container] = containersOf(find(manifests, kind, name));
  if (!container) throw new Error(`${kind} ${name} has no container`);
  return container;
}

const workloads = (manifests: Manifest[]) => manifests.filter(({ kind }) => /^(Deployment|DaemonSet|Pod)$/.test(kind));

describe('the programs take the arguments that the chart gives them', () => {
  test.each([
    ['Deployment', 'controller'],
    ['DaemonSet', 'node'],
    ['DaemonSet', 'engine'],
  ])('%s %s', async (kind, role) => {
    const { manifests } = await renderChart(everything);
    const { args = [], env = [] } = containerOf(manifests, kind, `lamina-${role}`);
    // As kubelet does with what is in the environment.
    const filled = args.map((arg) =>
      arg.replaceAll(/\$\((\w+)\)/g, (all, name) => (env.some((e) => e.name === name) ? '10.0.0.1' : all)),
    );
    const command = role === 'engine' ? ['engine', ...filled] : filled;
    const config = readConfig(['node', 'lamina', ...command], {}, { nodeName: 'none', version: '0' });
    expect(config.role).toBe(role);
    expect(JSON.stringify(config)).not.toContain('$(');
  });

  test('node and engine mean the same run directory and the same pools', async () => {
    const pools = [
      { name: 'default', path: '/var/lib/lamina' },
      { name: 'fast', path: '/mnt/nvme/lamina', create: false },
      { name: 'slow', path: '/mnt/nvme/slow', create: false },
    ];
    const { manifests } = await renderChart({ pools });
    const mounts = ['lamina-node', 'lamina-engine'].map((name) =>
      containerOf(manifests, 'DaemonSet', name)
        .volumeMounts?.filter((mount) => mount.name.startsWith('pool-') || mount.name === 'run')
        .map(({ mountPath }) => mountPath),
    );
    expect(mounts[0]).toEqual(['/run/lamina', '/var/lib/lamina', '/mnt/nvme']);
    expect(mounts[1]).toEqual(mounts[0]);
    for (const name of ['lamina-node', 'lamina-engine']) {
      const { volumes } = find(manifests, 'DaemonSet', name)['spec'].template.spec;
      for (const { hostPath } of volumes.filter((volume: { name: string }) => volume.name.startsWith('pool-')))
        expect(mounts[0]).toContain(hostPath.path);
    }
  });
});

describe('pods', () => {
  test('can do no more than they must', async () => {
    const { manifests } = await renderChart(everything);
    const containers = workloads(manifests).flatMap(containersOf);
    const privileged = containers.filter(({ securityContext }) => securityContext.privileged);
    expect(privileged.map(({ name }) => name).toSorted()).toEqual(['engine', 'node']);
    for (const { name, securityContext } of containers) {
      expect(securityContext.readOnlyRootFilesystem, name).toBe(true);
      if (securityContext.privileged) continue;
      expect(securityContext.allowPrivilegeEscalation, name).toBe(false);
      expect(securityContext.capabilities?.drop, name).toEqual(['ALL']);
    }
  });

  test('run as somebody with no rights, wherever nothing has to be done as root', async () => {
    const { manifests } = await renderChart(everything);
    for (const workload of workloads(manifests).filter(({ kind }) => kind !== 'DaemonSet')) {
      const { securityContext } = workload['spec'].template?.spec ?? workload['spec'];
      expect(securityContext, workload.metadata.name).toMatchObject({
        runAsNonRoot: true,
        seccompProfile: { type: 'RuntimeDefault' },
      });
    }
  });

  test('ask for what they need, and are not evicted first', async () => {
    const { manifests } = await renderChart(everything);
    for (const workload of manifests.filter(({ kind }) => /^(Deployment|DaemonSet)$/.test(kind))) {
      expect(workload['spec'].template.spec.priorityClassName, workload.metadata.name).toMatch(/^system-/);
      for (const container of containersOf(workload))
        expect(container.resources?.requests, container.name).toBeDefined();
    }
  });

  test('of one kind are set apart by what each values entry says', async () => {
    const placement = (zone: string) => ({
      nodeSelector: { zone },
      tolerations: [{ key: zone, operator: 'Exists' }],
      affinity: { podAffinity: {} },
      priorityClassName: zone,
      resources: { limits: { memory: '1Gi' } },
    });
    const { manifests } = await renderChart({ controller: placement('a'), node: placement('b') });
    for (const [kind, name, zone] of [
      ['Deployment', 'lamina-controller', 'a'],
      ['DaemonSet', 'lamina-node', 'b'],
    ] as const) {
      const { nodeSelector, tolerations, affinity, priorityClassName } = find(manifests, kind, name)['spec'].template
        .spec;
      expect({ nodeSelector, tolerations, affinity, priorityClassName }).toEqual(
        (({ resources: _, ...expected }) => expected)(placement(zone)),
      );
      expect(containerOf(manifests, kind, name).resources).toMatchObject({ limits: { memory: '1Gi' } });
    }
    // Nodes with volumes need both.
    expect(find(manifests, 'DaemonSet', 'lamina-engine')['spec'].template.spec.nodeSelector).toEqual({ zone: 'b' });
  });

  test('have images of their own where values say so', async () => {
    const { manifests } = await renderChart({
      image: { repository: 'example.org/lamina', tag: '2' },
      engine: { image: { tag: '1' } },
      registrar: { image: { repository: 'example.org/registrar', tag: '3' } },
      imagePullSecrets: ['pull'],
    });
    const images = workloads(manifests)
      .flatMap(containersOf)
      .map(({ image }) => image);
    expect(images).toContain('example.org/lamina:2');
    expect(images).toContain('example.org/registrar:3');
    expect(containerOf(manifests, 'DaemonSet', 'lamina-engine').image).toBe('example.org/lamina:1');
    for (const workload of workloads(manifests)) {
      expect((workload['spec'].template?.spec ?? workload['spec']).imagePullSecrets).toEqual([{ name: 'pull' }]);
    }
  });
});

describe('volumes in use outlive', () => {
  test('an upgrade: nothing replaces the pods of the engine, nor restarts its container', async () => {
    const { manifests } = await renderChart();
    const engine = find(manifests, 'DaemonSet', 'lamina-engine');
    expect(engine['spec'].updateStrategy).toEqual({ type: 'OnDelete' });
    expect(containerOf(manifests, 'DaemonSet', 'lamina-engine').livenessProbe).toBeUndefined();
  });

  test('the release: engine and definitions are kept', async () => {
    const { manifests } = await renderChart();
    const kept = manifests
      .filter(({ metadata }) => metadata.annotations?.['helm.sh/resource-policy'] === 'keep')
      .map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    expect(kept.toSorted()).toEqual([
      'CustomResourceDefinition diskimages.lamina.storage',
      'CustomResourceDefinition diskpools.lamina.storage',
      'CustomResourceDefinition disksnapshots.lamina.storage',
      'DaemonSet lamina-engine',
      'ServiceAccount lamina-engine',
    ]);
  });

  test('another version or another name of the release: selectors are the same', async () => {
    const { manifests } = await renderChart();
    for (const workload of manifests.filter(({ kind }) => /^(Deployment|DaemonSet)$/.test(kind))) {
      const component = workload.metadata.name.replace('lamina-', '');
      expect(workload['spec'].selector.matchLabels).toEqual({
        'app.kubernetes.io/name': 'lamina',
        'app.kubernetes.io/component': component,
      });
    }
  });
});

test('the definitions are those of crds/, with marks of the release', async () => {
  const { manifests } = await renderChart();
  const directory = path.resolve(chartDirectory, '../../crds');
  const files = await readdir(directory);
  expect(files.length).toBeGreaterThan(2);
  for (const file of files) {
    const source = parse(await readFile(path.join(directory, file), 'utf8'), { version: '1.1' }) as Manifest;
    const made = find(manifests, 'CustomResourceDefinition', source.metadata.name);
    expect(made['spec']).toEqual(source['spec']);
    expect(made.metadata.annotations).toEqual({ ...source.metadata.annotations, 'helm.sh/resource-policy': 'keep' });
  }
});

test('the driver says what it can do', async () => {
  const { manifests } = await renderChart();
  expect(find(manifests, 'CSIDriver', driverName)['spec']).toEqual({
    attachRequired: false,
    podInfoOnMount: false,
    requiresRepublish: false,
    volumeLifecycleModes: ['Persistent'],
    fsGroupPolicy: 'File',
    seLinuxMount: true,
    storageCapacity: true,
  });
});

test('classes are made as values say, with defaults for what they leave out', async () => {
  const { manifests } = await renderChart({
    storageClasses: [
      { name: 'thin', default: true },
      {
        name: 'thick',
        parameters: { format: 'raw', preallocation: 'falloc', 'csi.storage.k8s.io/fstype': 'xfs' },
        reclaimPolicy: 'Retain',
        volumeBindingMode: 'Immediate',
        allowVolumeExpansion: false,
        mountOptions: ['noatime'],
        annotations: { team: 'db' },
      },
    ],
    volumeAttributesClasses: [{ name: 'live', parameters: { liveSnapshots: 'true' } }],
  });
  const thin = find(manifests, 'StorageClass', 'thin');
  expect(thin).toMatchObject({
    provisioner: driverName,
    reclaimPolicy: 'Delete',
    volumeBindingMode: 'WaitForFirstConsumer',
    allowVolumeExpansion: true,
  });
  expect(thin.metadata.annotations).toEqual({ 'storageclass.kubernetes.io/is-default-class': 'true' });
  const thick = find(manifests, 'StorageClass', 'thick');
  expect(thick).toMatchObject({
    parameters: { format: 'raw', preallocation: 'falloc', 'csi.storage.k8s.io/fstype': 'xfs' },
    reclaimPolicy: 'Retain',
    volumeBindingMode: 'Immediate',
    allowVolumeExpansion: false,
    mountOptions: ['noatime'],
  });
  expect(thick.metadata.annotations).toEqual({ team: 'db' });
  expect(find(manifests, 'VolumeAttributesClass', 'live')).toMatchObject({
    driverName,
    parameters: { liveSnapshots: 'true' },
  });
});

describe('export', () => {
  const policyOf = (manifests: Manifest[]) => find(manifests, 'NetworkPolicy', 'lamina-node')['spec'].ingress;
  const portsOf = (manifests: Manifest[]) =>
    find(manifests, 'DaemonSet', 'lamina-node')['spec'].template.spec.containers[0].ports;

  test('is off unless asked for', async () => {
    const { manifests } = await renderChart();
    const { args = [] } = containerOf(manifests, 'DaemonSet', 'lamina-node');
    expect(args.filter((arg) => arg.includes('export'))).toEqual([]);
    expect(policyOf(manifests)).toHaveLength(2);
    expect(portsOf(manifests)).toHaveLength(2);
  });

  test('is told by the address of the pod, and reached by whom values name', async () => {
    const { manifests } = await renderChart(everything);
    const { args } = containerOf(manifests, 'DaemonSet', 'lamina-node');
    expect(args).toContain('--export-address=$(POD_IP):9444');
    const listening = (args ?? []).filter((arg) => arg.includes('-listen='));
    // IPv6, and IPv4 too.
    expect(listening.map((arg) => arg.replace(/\d+$/, ''))).toEqual(
      ['transfer', 'export', 'metrics'].map((what) => `--${what}-listen=[::]:`),
    );
    expect(policyOf(manifests).at(-1)).toEqual({
      ports: [{ port: 'export' }],
      from: [{ ipBlock: { cidr: '10.0.0.0/8' } }],
    });
    expect(portsOf(manifests)).toContainEqual({ name: 'export', containerPort: 9444 });
  });

  test('is told by the address of the node where that answers', async () => {
    const { manifests } = await renderChart({ export: { enabled: true, port: 9555, hostPort: true } });
    const { args } = containerOf(manifests, 'DaemonSet', 'lamina-node');
    expect(args).toContain('--export-address=$(HOST_IP):9555');
    expect(policyOf(manifests).at(-1)).toEqual({ ports: [{ port: 'export' }] });
    expect(portsOf(manifests)).toContainEqual({ name: 'export', containerPort: 9555, hostPort: 9555 });
  });
});

test('without the snapshotter there is nothing of snapshots', async () => {
  const { manifests } = await renderChart({ snapshotter: { enabled: false } });
  expect(manifests.filter((manifest) => JSON.stringify(manifest).includes('snapshot.storage.k8s.io'))).toEqual([]);
  const containers = containersOf(find(manifests, 'Deployment', 'lamina-controller'));
  expect(containers.map(({ name }) => name)).toEqual(['controller', 'csi-provisioner', 'csi-resizer']);
});

test('what is off unless asked for is off', async () => {
  const { manifests } = await renderChart();
  const kinds = new Set(manifests.map(({ kind }) => kind));
  for (const kind of ['ServiceMonitor', 'PrometheusRule', 'ConfigMap', 'Service']) expect(kinds).not.toContain(kind);
  expect(manifests.map(({ metadata }) => metadata.name)).not.toContain('lamina-snapshot-controller');
});

test('helm finds nothing to complain about', async () => {
  expect(await lintChart()).toContain('0 chart(s) failed');
});

test('every object is of one of the versions that Kubernetes has now', async () => {
  const { manifests } = await renderChart(everything);
  const unstable = manifests.filter(({ apiVersion }) => /v\d+(alpha|beta)/.test(apiVersion));
  expect(unstable).toEqual([]);
});
