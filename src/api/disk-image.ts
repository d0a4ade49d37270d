import * as z from 'zod';
import { diskFormats, poolName, quantityField, subdomain } from './fields.ts';
import { diskImageStatus } from './disk-image-status.ts';
import { isImportedRule, isSealedByDefault, isSealedRule, sourceField } from './disk-source.ts';
import { ageColumn, type Kind, messageColumn, readyColumns } from './kind.ts';
import { defaultPoolName } from './names.ts';
import { immutable, immutableOnceSet, withRules } from './rule.ts';
import { sealedSizeRule, shrinkRule, sizeRules } from './size-rules.ts';

const clusterSizes = ['4Ki', '8Ki', '16Ki', '32Ki', '64Ki', '128Ki', '256Ki', '512Ki', '1Mi', '2Mi'] as const;

const newDisk = 'declare a new DiskImage with the other value';
const isSealed = isSealedRule('self');

const specSchema = z
  .object({
    size: quantityField({
      description:
        'How big the disk looks to what uses it, such as 10Gi; rounded up to 4Ki. It can grow later, in use as well, and a growth that finds no room can be withdrawn; a disk never shrinks, and a sealed one keeps its size. A disk with a source may be bigger than that; without a size it has the size of its source.',
      ...withRules(...sizeRules),
    }).optional(),
    format: z
      .enum(diskFormats)
      .meta({
        description:
          'How the disk is kept on its node. qcow2: thin, with snapshots while it is in use. raw: as fast as the disk below. A disk with a source may be qcow2 nevertheless; status.format says what it is.',
        ...withRules(immutable('format', `${newDisk}, with this one as source.diskImage.`)),
      })
      .default('qcow2'),
    preallocation: z
      .enum(['off', 'metadata', 'falloc', 'full'])
      .meta({
        description:
          'What a blank disk takes of its pool at once. "off" (in quotes, as YAML takes the bare word for false): nothing. metadata: what qcow2 needs to keep track of its blocks. falloc: all of it, reserved. full: all of it, written with zeroes. Disks with a source share blocks, and are thin.',
        ...withRules(immutable('preallocation', `${newDisk}.`)),
      })
      .default('off'),
    clusterSize: z
      .enum(clusterSizes)
      .meta({
        description:
          'Unit in which a qcow2 disk takes space and copies on write; 128Ki where it is left out. With a bigger one, fstrim gives nothing back to the pool.',
      })
      .optional(),
    liveSnapshots: z
      .boolean()
      .meta({
        description:
          'Attach a raw disk in a way that allows snapshots while it is in use, on pools that cannot share extents; slower. Without effect on qcow2. Takes effect when the disk is attached next.',
      })
      .default(false),
    pool: poolName
      .meta({
        description: 'Name of the pools that can hold the disk; there is one of a name on each node.',
        ...withRules(immutable('pool', `${newDisk}.`)),
      })
      .default(defaultPoolName),
    nodeName: subdomain
      .meta({ description: 'The node that holds the disk. Left out, the controller fills it in, by room or source.' })
      .optional(),
    source: sourceField,
    sealed: z
      .boolean()
      .meta({
        description:
          'Whether the content stays as it is for ever, so that disks start from it on any node, and no pod uses it itself. Left out, it is so with the sources http, registry, upload, persistentVolumeClaim and volumeSnapshot; with the first three it cannot be otherwise.',
      })
      .optional(),
    nodes: z
      .array(subdomain)
      .max(256)
      .meta({
        description:
          'Names of further nodes that get a copy of a sealed DiskImage ahead of need, in their pool of the same name. Others fetch one when a disk is to start from it there.',
        'x-kubernetes-list-type': 'set',
      })
      .optional(),
    nodeSelector: z
      .record(z.string().max(317), z.string().max(63))
      .meta({
        description:
          'Labels of further nodes that get a copy, beside those in nodes; a node has to have all of them. Nodes that come or get them later are served as well, and those without such a pool are passed over.',
        minProperties: 1,
        maxProperties: 16,
      })
      .optional(),
  })
  .meta({
    description: 'What is wanted.',
    ...withRules(
      {
        rule: "self.source.type != 'blank' || has(self.size)",
        message: 'size is required for a blank disk: say how big it is to be, such as 10Gi.',
        fieldPath: '.size',
      },
      {
        rule: '!has(oldSelf.size) || has(self.size)',
        message: 'size cannot be taken away, as it says what the disk has grown to: leave it as it was.',
        fieldPath: '.size',
      },
      {
        rule: "self.format == 'qcow2' || self.preallocation != 'metadata'",
        message:
          "preallocation 'metadata' is for format qcow2 only, as a raw file has none: choose off, falloc or full, or format qcow2.",
        fieldPath: '.preallocation',
      },
      {
        rule: "self.format == 'qcow2' || !has(self.clusterSize)",
        message: 'clusterSize is for format qcow2 only, as a raw file has no clusters: leave it out, or choose qcow2.',
        fieldPath: '.clusterSize',
      },
      {
        rule: 'has(self.clusterSize) == has(oldSelf.clusterSize) && (!has(self.clusterSize) || self.clusterSize == oldSelf.clusterSize)',
        message: `clusterSize cannot be changed: ${newDisk}.`,
        fieldPath: '.clusterSize',
      },
      {
        rule: `${isSealed} == ${isSealedRule('oldSelf')}`,
        message: `sealed cannot be changed: ${newDisk}, with this one as source.diskImage.`,
        fieldPath: '.sealed',
      },
      {
        rule: `${isSealed} || !(${isImportedRule})`,
        message:
          'sealed cannot be false with this source, as what is imported is sealed: leave it out, and declare a disk that starts from this one by source.diskImage.',
        fieldPath: '.sealed',
      },
      sealedSizeRule(isSealed),
      ...(['nodes', 'nodeSelector'] as const).map((field) => ({
        rule: `!has(self.${field}) || ${isSealed}`,
        message: `${field} is for sealed DiskImages only, as others are on one node: leave it out, or say sealed: true.`,
        fieldPath: `.${field}`,
      })),
      immutableOnceSet(
        'nodeName',
        'the disk is on that node; declare a new DiskImage on the other one, and copy the data.',
      ),
    ),
  })
  .transform(({ sealed, nodes, ...spec }) => ({
    ...spec,
    sealed: sealed ?? isSealedByDefault(spec.source.type),
    nodes: nodes ?? [],
  }));

/** One disk image on a node: a volume, or what volumes start from. */
export const diskImageKind = {
  kind: 'DiskImage',
  plural: 'diskimages',
  shortName: 'di',
  scope: 'Namespaced',
  description:
    'A DiskImage is one disk image on a node. Declared, it becomes a file in a pool of the node, which goes with the object. The volumes that CSI makes are DiskImages in the namespace of the system.',
  spec: specSchema,
  status: diskImageStatus,
  rules: [
    {
      // Of metadata, rules see the name only.
      rule: '!has(self.spec.source.diskImage) || has(self.spec.source.diskImage.namespace) || self.spec.source.diskImage.name != self.metadata.name',
      message: 'source.diskImage is the DiskImage itself: name another one, or choose source.type blank.',
      fieldPath: '.spec.source.diskImage.name',
    },
    shrinkRule,
  ],
  columns: [
    ...readyColumns,
    { name: 'Size', type: 'string', jsonPath: '.status.virtualSize', description: 'How big it looks.' },
    { name: 'Format', type: 'string', jsonPath: '.status.format', description: 'How it is kept.' },
    { name: 'Node', type: 'string', jsonPath: '.spec.nodeName', description: 'The node that holds it.' },
    { name: 'Progress', type: 'string', jsonPath: '.status.progress', description: 'How far it is made.' },
    { name: 'Allocated', type: 'string', jsonPath: '.status.allocated', description: 'What its own file takes.' },
    ageColumn,
    {
      name: 'Healthy',
      type: 'string',
      jsonPath: conditionStatus('Healthy'),
      description: 'Whether it works.',
      wide: true,
    },
    {
      name: 'Attached',
      type: 'boolean',
      jsonPath: '.status.attached',
      description: 'Whether it is in use.',
      wide: true,
    },
    { name: 'Pool', type: 'string', jsonPath: '.spec.pool', description: 'The pool it is in.', wide: true },
    { name: 'Source', type: 'string', jsonPath: '.spec.source.type', description: 'What it started from.', wide: true },
    {
      name: 'Imported',
      type: 'integer',
      jsonPath: '.status.importedBytes',
      description: 'Bytes taken from the source.',
      wide: true,
    },
    {
      name: 'Copied',
      type: 'string',
      jsonPath: conditionStatus('Copied'),
      description: 'Whether all nodes that are to have a copy have it.',
      wide: true,
    },
    { name: 'Depth', type: 'integer', jsonPath: '.status.chainDepth', description: 'Files it is made of.', wide: true },
    {
      name: 'Claim',
      type: 'string',
      jsonPath: '.metadata.annotations.lamina\\.storage/claim',
      description: 'The PersistentVolumeClaim that it is the volume of.',
      wide: true,
    },
    messageColumn,
  ],
  selectableFields: ['.spec.nodeName'],
} as const satisfies Kind<typeof specSchema, typeof diskImageStatus>;

function conditionStatus(type: string): string {
  return `.status.conditions[?(@.type=="${type}")].status`;
}
