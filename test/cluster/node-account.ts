import { readFile, writeFile } from 'node:fs/promises';
import { parse, stringify } from 'yaml';
import { isAlreadyExists } from '../../src/kube/client/api-error.ts';
import type { Manifest } from '../../src/kube/objects.ts';
import { permissions } from '../../src/roles/permissions.ts';
import type { Kube } from './kube.ts';
import * as kinds from './kinds.ts';
import { systemNamespace } from './objects.ts';

const account = { namespace: systemNamespace, name: 'lamina-node' };

/**
 * Writes a kubeconfig with the account that the chart gives to node plugins, its rights and no others, and a token bound
 * to the node: by that others know the node when layers are transferred.
 *
 * @param adminFile kubeconfig of an administrator of the same cluster
 */
export async function writeNodeKubeconfig(
  kube: Kube,
  nodeName: string,
  adminFile: string,
  file: string,
): Promise<void> {
  await installAccount(kube);
  const boundObjectRef = { apiVersion: 'v1', kind: 'Node', name: nodeName };
  const answer = (await kube.client.request({
    method: 'POST',
    path: `/api/v1/namespaces/${account.namespace}/serviceaccounts/${account.name}/token`,
    body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { boundObjectRef } },
  })) as { status: { token: string } };
  const kubeconfig = parse(await readFile(adminFile, 'utf8')) as { users: { name: string; user: object }[] };
  const users = kubeconfig.users.map(({ name }) => ({ name, user: { token: answer.status.token } }));
  await writeFile(file, stringify({ ...kubeconfig, users }), { mode: 0o600 });
}

async function installAccount(kube: Kube): Promise<void> {
  const subjects = [{ kind: 'ServiceAccount', ...account }];
  const { name, namespace } = account;
  const bound = (kind: string) => ({ subjects, roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name } });
  const objects = [
    [kinds.serviceAccounts, { metadata: account }],
    [kinds.clusterRoles, { metadata: { name }, rules: rulesOf(false) }],
    [kinds.clusterRoleBindings, { metadata: { name }, ...bound('ClusterRole') }],
    [kinds.roles, { metadata: { name, namespace }, rules: rulesOf(true) }],
    [kinds.roleBindings, { metadata: { name, namespace }, ...bound('Role') }],
  ] as const;
  for (const [type, manifest] of objects) {
    await kube
      .of(type)
      .create(manifest as Manifest)
      .catch((error: unknown) => {
        if (!isAlreadyExists(error)) throw error;
      });
  }
}

function rulesOf(ownNamespace: boolean) {
  return permissions.node
    .filter((permission) => (permission.ownNamespace ?? false) === ownNamespace)
    .map(({ group, resources, verbs, names }) => ({
      apiGroups: [group],
      resources,
      verbs,
      ...(names ? { resourceNames: names } : {}),
    }));
}
