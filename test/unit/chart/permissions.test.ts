import { beforeEach, describe, expect, test } from 'vitest';
import { accessOf } from '../../../src/reconcile/node/user-access.ts';
import { type Permission, permissions } from '../../../src/roles/permissions.ts';
import { exportedResources, type UserRequest } from '../../../src/transfer/users/user-request.ts';
import { helmMissing, type Manifest, renderChart } from '../../chart.ts';

const missing = await helmMissing();
beforeEach((context) => {
  if (missing) context.skip(missing);
});

interface Rule {
  apiGroups?: string[];
  resources?: string[];
  resourceNames?: string[];
  nonResourceURLs?: string[];
  verbs: string[];
}

/** One line for each verb on each resource, for sets to be compared. */
function granted(manifests: Manifest[], kind: string, name: string): string[] {
  const role = manifests.find((manifest) => manifest.kind === kind && manifest.metadata.name === name);
  const rules = (role?.['rules'] ?? []) as Rule[];
  return rules
    .flatMap(({ apiGroups = [], resources = [], resourceNames, verbs }) =>
      apiGroups.flatMap((group) => linesOf({ group, resources, verbs, names: resourceNames })),
    )
    .toSorted();
}

function linesOf({
  group,
  resources,
  verbs,
  names,
}: Pick<Permission, 'group' | 'resources'> & {
  verbs: readonly string[];
  names?: readonly string[] | undefined;
}): string[] {
  const only = names ? ` of the names ${names.toSorted().join(', ')}` : '';
  return resources.flatMap((resource) => verbs.map((verb) => `${verb} ${group || 'core'}/${resource}${only}`));
}

function asked(role: keyof typeof permissions, ownNamespace: boolean): string[] {
  return permissions[role]
    .filter((permission) => (permission.ownNamespace ?? false) === ownNamespace)
    .flatMap(linesOf)
    .toSorted();
}

describe.each(['controller', 'node'] as const)('the role %s is granted what it asks for, and nothing else', (role) => {
  test('everywhere', async () => {
    const { manifests } = await renderChart();
    expect(granted(manifests, 'ClusterRole', `lamina-${role}`)).toEqual(asked(role, false));
  });

  test('in its own namespace', async () => {
    const { manifests } = await renderChart();
    expect(granted(manifests, 'Role', `lamina-${role}`)).toEqual(asked(role, true));
  });
});

test('the roles for export and upload let do what the node plugin asks for', async () => {
  const { manifests } = await renderChart();
  const lineOf = (request: UserRequest) => {
    const { group, resource, subresource, verb } = accessOf(request);
    return linesOf({ group, resources: [`${resource}/${subresource}`], verbs: [verb] });
  };
  const named = { namespace: 'media', name: 'debian', headOnly: false };
  for (const resource of exportedResources) {
    const line = lineOf({ action: 'export', resource, format: 'raw', ...named });
    expect(granted(manifests, 'ClusterRole', 'lamina-export')).toEqual(expect.arrayContaining(line));
  }
  const line = lineOf({ action: 'upload', resource: 'diskimages', ...named });
  expect(granted(manifests, 'ClusterRole', 'lamina-upload')).toEqual(expect.arrayContaining(line));
});

test('the engine is granted nothing, and has no token', async () => {
  const { manifests } = await renderChart();
  const subjects = manifests.flatMap((manifest) => (manifest['subjects'] ?? []) as { name: string }[]);
  expect(subjects.map(({ name }) => name)).not.toContain('lamina-engine');
  const engine = manifests.find(({ kind, metadata }) => kind === 'DaemonSet' && metadata.name === 'lamina-engine');
  expect(engine?.['spec'].template.spec.automountServiceAccountToken).toBe(false);
});

test('nobody is granted everything, or anything by a wildcard', async () => {
  const { manifests } = await renderChart({ snapshotController: { enabled: true } });
  const roles = manifests.filter(({ kind }) => kind === 'ClusterRole' || kind === 'Role');
  expect(roles.length).toBeGreaterThan(5);
  const words = roles.flatMap(({ rules }) =>
    (rules as Rule[]).flatMap((rule) => [...(rule.apiGroups ?? []), ...(rule.resources ?? []), ...rule.verbs]),
  );
  expect(words).not.toContain('*');
});

/** They let somebody read metrics, export and upload, and the node plugin Secrets of a namespace. */
const toBeBoundByUsers = [
  'lamina-metrics-reader',
  'lamina-import',
  'lamina-export',
  'lamina-upload',
  'lamina-pool-reader',
];

test('each role is bound, and to accounts of the chart', async () => {
  const { manifests } = await renderChart({ snapshotController: { enabled: true } });
  const bindings = manifests.filter(({ kind }) => kind.endsWith('RoleBinding'));
  const bound = bindings.map(({ roleRef }) => `${roleRef.kind} ${roleRef.name}`);
  const roles = manifests
    .filter(({ kind, metadata }) => /^(Cluster)?Role$/.test(kind) && !toBeBoundByUsers.includes(metadata.name))
    .map(({ kind, metadata }) => `${kind} ${metadata.name}`);
  expect(bound.toSorted()).toEqual(roles.toSorted());
  const accounts = manifests.filter(({ kind }) => kind === 'ServiceAccount').map(({ metadata }) => metadata.name);
  for (const { subjects } of bindings) {
    for (const { name, namespace } of subjects) {
      expect(accounts).toContain(name);
      expect(namespace).toBe('lamina-system');
    }
  }
});
