import { definitionName, kinds } from '../api/kinds.ts';
import { apiGroup, transferSignerName } from '../api/names.ts';
import { authoritySecretName } from '../reconcile/cluster/transfer-authorities.ts';

export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'approve' | 'sign';

/** What a role asks of the API server about some resources, and for what. */
export interface Permission {
  /** Empty for the core group. */
  group: string;
  resources: readonly string[];
  verbs: readonly Verb[];
  /** In the namespace of the system only; everywhere unless given. */
  ownNamespace?: true;
  /** Only objects of these names. */
  names?: readonly string[];
  why: string;
}

const common: readonly Permission[] = [
  {
    group: 'events.k8s.io',
    resources: ['events'],
    verbs: ['create', 'patch'],
    why: 'tell people what happens to their objects, and how often',
  },
  {
    group: 'apiextensions.k8s.io',
    resources: ['customresourcedefinitions'],
    verbs: ['get'],
    names: kinds.map(definitionName),
    why: 'look at the start whether the definitions are those of this version',
  },
  {
    group: 'authentication.k8s.io',
    resources: ['tokenreviews'],
    verbs: ['create'],
    why: 'ask who wants to read metrics, or to export and upload',
  },
  {
    group: 'authorization.k8s.io',
    resources: ['subjectaccessreviews'],
    verbs: ['create'],
    why: 'ask whether they may',
  },
];

/**
 * What the roles ask of the API server, and nothing else: the chart grants them exactly this. A line that no code needs
 * any more goes.
 */
export const permissions: Record<'controller' | 'node', readonly Permission[]> = {
  controller: [
    {
      group: apiGroup,
      resources: ['diskimages', 'disksnapshots'],
      verbs: ['get', 'list', 'watch', 'create', 'patch', 'delete'],
      why: 'declare volumes and snapshots, place disks, finish for nodes that are gone',
    },
    {
      group: apiGroup,
      resources: ['diskimages/status', 'disksnapshots/status', 'diskpools/status'],
      verbs: ['patch'],
      why: 'say where a disk goes, and what belongs to a node that is gone',
    },
    {
      group: apiGroup,
      resources: ['diskpools'],
      verbs: ['get', 'list', 'watch', 'delete'],
      why: 'know room and orphans; remove the pools of nodes that are gone',
    },
    { group: '', resources: ['nodes'], verbs: ['get', 'list', 'watch'], why: 'know which nodes there are' },
    {
      group: '',
      resources: ['persistentvolumes'],
      verbs: ['list', 'watch', 'create'],
      why: 'know which volumes are needed, before one is taken for forgotten; provision claims that start from DiskImages',
    },
    {
      group: '',
      resources: ['persistentvolumeclaims'],
      verbs: ['get', 'list', 'watch', 'patch'],
      why: 'know for whom a volume is made; ask for another node where there is no room',
    },
    {
      group: 'certificates.k8s.io',
      resources: ['certificatesigningrequests'],
      verbs: ['list', 'watch'],
      why: 'know which nodes want certificates, by which they know each other',
    },
    {
      group: 'certificates.k8s.io',
      resources: ['certificatesigningrequests/approval', 'certificatesigningrequests/status'],
      verbs: ['patch'],
      why: 'approve and sign them',
    },
    {
      group: 'certificates.k8s.io',
      resources: ['signers'],
      verbs: ['approve', 'sign'],
      names: [transferSignerName],
      why: 'those of its own signer only',
    },
    {
      group: '',
      resources: ['secrets'],
      verbs: ['get', 'update'],
      names: [authoritySecretName],
      ownNamespace: true,
      why: 'keep the authority that signs them',
    },
    {
      group: '',
      resources: ['secrets'],
      verbs: ['create'],
      ownNamespace: true,
      why: 'the same at the first start: creating cannot be limited to a name',
    },
    {
      group: 'storage.k8s.io',
      resources: ['storageclasses', 'volumeattributesclasses'],
      verbs: ['get'],
      why: 'know how a volume is to be made that starts from a DiskImage, and what is wrong with a class',
    },
    {
      group: 'snapshot.storage.k8s.io',
      resources: ['volumesnapshotcontents'],
      verbs: ['list', 'watch'],
      why: 'the same for snapshots',
    },
    {
      group: 'snapshot.storage.k8s.io',
      resources: ['volumesnapshots'],
      verbs: ['get'],
      why: 'know which snapshot is meant, before a disk starts from it',
    },
    {
      group: '',
      resources: ['namespaces'],
      verbs: ['list', 'watch'],
      why: 'know where objects of what a pool holds can be declared again',
    },
    {
      group: 'coordination.k8s.io',
      resources: ['leases'],
      verbs: ['get', 'list', 'watch', 'create', 'update', 'delete'],
      ownNamespace: true,
      why: 'be elected; see which node plugins are silent, and remove the leases of nodes that are gone',
    },
    ...common,
  ],
  node: [
    {
      group: apiGroup,
      resources: ['diskimages', 'disksnapshots'],
      verbs: ['get', 'list', 'watch', 'patch'],
      why: 'see what is wanted of the node, and put finalizers on what is made and off what is gone',
    },
    {
      group: apiGroup,
      resources: ['diskpools'],
      verbs: ['get', 'list', 'watch', 'create', 'patch'],
      why: 'declare its own pools, and know where others give theirs',
    },
    {
      group: 'certificates.k8s.io',
      resources: ['certificatesigningrequests'],
      verbs: ['create', 'get'],
      why: 'ask for the certificate by which other nodes know this one',
    },
    {
      group: 'snapshot.storage.k8s.io',
      resources: ['volumesnapshots', 'volumesnapshotcontents'],
      verbs: ['get'],
      why: 'know which snapshot is meant by who exports one',
    },
    {
      group: '',
      resources: ['namespaces'],
      verbs: ['get'],
      names: ['kube-system'],
      why: 'know which cluster this is, so that pools of another one are not touched',
    },
    {
      group: apiGroup,
      resources: ['diskimages/status', 'disksnapshots/status', 'diskpools/status'],
      verbs: ['patch'],
      why: 'say what is',
    },
    {
      group: 'coordination.k8s.io',
      resources: ['leases'],
      verbs: ['get', 'create', 'update'],
      ownNamespace: true,
      why: 'show that it is alive',
    },
    ...common,
  ],
};
