import * as z from 'zod';
import {
  conditionsField,
  count,
  digest,
  diskFormats,
  namespaceName,
  poolName,
  quantityReport,
  subdomain,
  text,
  timestamp,
} from './fields.ts';
import { ageColumn, type Kind, messageColumn, readyColumns } from './kind.ts';
import { immutable, withRules } from './rule.ts';

const ownName = 'the node plugin makes one DiskPool for each of its pools; do not write them by hand.';

const specSchema = z
  .object({
    poolName: poolName.meta({
      description: 'Name of the pool, the same on all nodes; DiskImages ask for it.',
      ...withRules(immutable('poolName', ownName)),
    }),
    nodeName: subdomain.meta({
      description: 'The node that has the pool.',
      ...withRules(immutable('nodeName', ownName)),
    }),
  })
  .meta({ description: 'Which pool it is.' });

const fileSystemSchema = z
  .object({
    type: z.string().max(32).meta({ description: 'ext4, xfs or btrfs.' }),
    reflink: z
      .boolean()
      .meta({ description: 'Whether files can share extents, so that raw disks stay raw when copied.' }),
    directIO: z.boolean().meta({ description: 'Whether files can be read and written past the page cache.' }),
    holePunching: z.boolean().meta({ description: 'Whether space that a disk discards is given back.' }),
  })
  .meta({ description: "The file system of the pool's directory, and what it can do." });

const dataPathSchema = z
  .object({
    backend: z.enum(['nbd', 'fuse']).meta({ description: 'What shows disks that are not plain files to the kernel.' }),
    exportDirectIO: z.boolean().meta({ description: 'Whether what the backend shows is used past the page cache.' }),
    rawDirectIO: z.boolean().meta({ description: 'Whether raw disks are used past the page cache.' }),
    imageDirectIO: z.boolean().meta({ description: 'Whether storage daemons use image files past the page cache.' }),
  })
  .meta({ description: 'How disks are attached on the node: the fastest way that the self-test found right.' });

const spaceSchema = z
  .object({
    total: quantityReport('Size of the file system.'),
    free: quantityReport('What is free, without what is reserved; rounded down.'),
    reserved: quantityReport('What is never used.'),
    criticalMark: quantityReport('With less free space than this nothing starts that takes space.'),
    overcommit: z
      .string()
      .max(16)
      .regex(/^[0-9]+(\.[0-9]+)?$/)
      .meta({ description: 'How much may be promised: sizes of all disks / size of the file system.' }),
    provisioned: quantityReport('What is promised: the sizes of all disks.'),
    allocated: quantityReport('What the image files take; rounded up.'),
    availableThin: quantityReport('The biggest disk without preallocation that is taken on; rounded down.'),
    availableThick: quantityReport('The biggest disk with preallocation that is taken on; rounded down.'),
  })
  .meta({ description: 'Room in the pool, and what is promised of it.' });

const orphanId = z.string().min(1).max(128);

const orphanSchema = z
  .object({
    kind: z
      .enum(['disk', 'snapshot', 'image'])
      .meta({ description: 'What it is: a disk, a snapshot, or the content of a sealed DiskImage.' }),
    id: orphanId.meta({ description: 'What it is called in the pool.' }),
    name: text.meta({ description: 'The name it was asked for by, of which the id is derived.' }),
    size: quantityReport('How big it looks.'),
    createdAt: timestamp.meta({ description: 'When it was made.' }),
    foundAt: timestamp.meta({ description: 'Since when it is known to have no object.' }),
    disk: orphanId.meta({ description: 'Of a snapshot: the disk it is of.' }).optional(),
    source: orphanId.meta({ description: 'Of a disk with a source: its id.' }).optional(),
    sourceKind: z
      .enum(['disk', 'snapshot', 'image'])
      .meta({ description: 'Of a disk with a source: what that is.' })
      .optional(),
    format: z.enum(diskFormats).meta({ description: 'Of a disk: the format it was asked for in.' }).optional(),
    preallocation: z
      .enum(['off', 'metadata', 'falloc', 'full'])
      .meta({ description: 'Of a disk: the preallocation it was asked for with.' })
      .optional(),
    clusterSize: quantityReport('Of a qcow2 disk: the cluster size it was asked for with.').optional(),
    liveSnapshots: z.boolean().meta({ description: 'Of a disk: whether live snapshots were asked for.' }).optional(),
    digest: digest.meta({ description: 'Of an image that was imported: what it was.' }).optional(),
  })
  .meta({ description: 'One disk, snapshot or image without an object, and all that is needed to declare it again.' });

const hostAndPort = z
  .string()
  .max(261)
  .regex(/^(\[[0-9a-f:.]+\]|[a-z0-9.-]+):[0-9]{1,5}$/);

const exportSchema = z
  .object({
    address: hostAndPort.meta({ description: 'Where it answers by HTTPS, as HOST:PORT.' }),
    serverName: subdomain.meta({ description: 'The name in its certificate, to be asked for at that address.' }),
    certificateAuthority: z.string().max(65_536).meta({
      description: 'The certificates to know it by, in PEM; the old and the new one while they are exchanged.',
    }),
    podNamespace: namespaceName.meta({ description: 'Namespace of its pod, for kubectl port-forward.' }).optional(),
    podName: subdomain.meta({ description: 'Name of its pod.' }).optional(),
  })
  .meta({
    description: 'Where the node plugin gives what the pool holds to people who may have it, and takes uploads.',
  });

const statusSchema = z
  .object({
    conditions: conditionsField,
    poolId: z.uuid().meta({ description: 'Identity of the pool, made with it and kept in its directory.' }).optional(),
    path: z.string().max(4096).meta({ description: 'Directory of the pool on the node.' }).optional(),
    version: z.string().max(64).meta({ description: 'Version of the node plugin that serves the pool.' }).optional(),
    transferAddress: hostAndPort
      .meta({ description: 'Where the node plugin gives what the pool holds to other nodes, as HOST:PORT.' })
      .optional(),
    export: exportSchema.optional(),
    fileSystem: fileSystemSchema.optional(),
    dataPath: dataPathSchema.optional(),
    space: spaceSchema.optional(),
    disks: count.meta({ description: 'How many disks it holds.' }).optional(),
    snapshots: count.meta({ description: 'How many snapshots it holds.' }).optional(),
    orphanCount: count
      .meta({ description: 'How many disks, snapshots and images it holds that have no object.' })
      .optional(),
    orphans: z
      .array(orphanSchema)
      .max(256)
      .meta({
        description:
          'The first of those that have no object. The controller declares them again where it can, and lists the next; the others stay as they are for a person to decide.',
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['kind', 'id'],
      })
      .optional()
      .transform((orphans) => orphans ?? []),
  })
  .meta({ description: 'What is.' });

/** One pool on one node. */
export const diskPoolKind = {
  kind: 'DiskPool',
  plural: 'diskpools',
  shortName: 'dpool',
  scope: 'Cluster',
  description:
    'A DiskPool is a directory on a node that holds disk images. The node plugin makes the object and reports in it; nothing is set here.',
  spec: specSchema,
  status: statusSchema,
  rules: [
    {
      rule: "self.metadata.name == self.spec.poolName + '.' + self.spec.nodeName",
      message: `name must be that of the pool, a dot and that of the node, as there is one for each: ${ownName}`,
    },
  ],
  columns: [
    { name: 'Node', type: 'string', jsonPath: '.spec.nodeName', description: 'The node that has it.' },
    { name: 'Pool', type: 'string', jsonPath: '.spec.poolName', description: 'The name DiskImages ask for.' },
    ...readyColumns,
    { name: 'Total', type: 'string', jsonPath: '.status.space.total', description: 'Size of the file system.' },
    { name: 'Free', type: 'string', jsonPath: '.status.space.free', description: 'What is free of it.' },
    { name: 'Provisioned', type: 'string', jsonPath: '.status.space.provisioned', description: 'What is promised.' },
    { name: 'Disks', type: 'integer', jsonPath: '.status.disks', description: 'How many disks it holds.' },
    ageColumn,
    {
      name: 'Allocated',
      type: 'string',
      jsonPath: '.status.space.allocated',
      description: 'What files take.',
      wide: true,
    },
    {
      name: 'Overcommit',
      type: 'string',
      jsonPath: '.status.space.overcommit',
      description: 'How much may be promised.',
      wide: true,
    },
    {
      name: 'FileSystem',
      type: 'string',
      jsonPath: '.status.fileSystem.type',
      description: 'ext4, xfs or btrfs.',
      wide: true,
    },
    {
      name: 'Reflink',
      type: 'boolean',
      jsonPath: '.status.fileSystem.reflink',
      description: 'Whether files share extents.',
      wide: true,
    },
    {
      name: 'Backend',
      type: 'string',
      jsonPath: '.status.dataPath.backend',
      description: 'How disks are attached.',
      wide: true,
    },
    {
      name: 'Orphans',
      type: 'integer',
      jsonPath: '.status.orphanCount',
      description: 'What has no object.',
      wide: true,
    },
    { name: 'Path', type: 'string', jsonPath: '.status.path', description: 'Its directory.', wide: true },
    messageColumn,
  ],
  selectableFields: ['.spec.nodeName'],
} as const satisfies Kind<typeof specSchema, typeof statusSchema>;
