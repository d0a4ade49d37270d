import * as z from 'zod';
import { conditionsField, count, poolName, quantityReport, subdomain, timestamp } from './fields.ts';
import { ageColumn, type Kind, messageColumn, readyColumns } from './kind.ts';
import { immutable, immutableOnceSet, withRules } from './rule.ts';

const specSchema = z
  .object({
    diskImageName: subdomain.meta({
      description: 'Name of the DiskImage in the same namespace that the snapshot is of; it may be gone by now.',
      ...withRules(immutable('diskImageName', 'declare a new DiskSnapshot of the other disk.')),
    }),
    nodeName: subdomain
      .meta({ description: 'The node that holds the snapshot, which is that of the disk; the controller fills it in.' })
      .optional(),
  })
  .meta({
    description: 'What is wanted.',
    ...withRules(immutableOnceSet('nodeName', 'a snapshot is on the node of its disk; leave it as it is.')),
  });

const statusSchema = z
  .object({
    observedGeneration: count.meta({ description: 'The metadata.generation that the status is about.' }).optional(),
    conditions: conditionsField,
    snapshotId: z.string().max(128).meta({ description: 'What the snapshot is called in its pool.' }).optional(),
    nodeName: subdomain.meta({ description: 'The node that has the snapshot.' }).optional(),
    pool: poolName.meta({ description: 'Name of the pool that holds it.' }).optional(),
    creationTime: timestamp.meta({ description: 'The moment whose content the snapshot holds.' }).optional(),
    restoreSize: quantityReport('The smallest size of a disk that starts from the snapshot.').optional(),
  })
  .meta({ description: 'What is.' });

/** One snapshot of a DiskImage. */
export const diskSnapshotKind = {
  kind: 'DiskSnapshot',
  plural: 'disksnapshots',
  shortName: 'dsnap',
  scope: 'Namespaced',
  description:
    'A DiskSnapshot is a snapshot of a DiskImage, on the node that has the disk. For volumes write a VolumeSnapshot, from which DiskSnapshots are made in the namespace of the system.',
  spec: specSchema,
  status: statusSchema,
  rules: [],
  columns: [
    ...readyColumns,
    { name: 'Disk', type: 'string', jsonPath: '.spec.diskImageName', description: 'The DiskImage it is of.' },
    {
      name: 'Size',
      type: 'string',
      jsonPath: '.status.restoreSize',
      description: 'The size of the disk at that time.',
    },
    { name: 'Node', type: 'string', jsonPath: '.spec.nodeName', description: 'The node that holds it.' },
    ageColumn,
    {
      name: 'Taken',
      type: 'date',
      jsonPath: '.status.creationTime',
      description: 'How old its content is.',
      wide: true,
    },
    messageColumn,
  ],
  selectableFields: ['.spec.nodeName', '.spec.diskImageName'],
} as const satisfies Kind<typeof specSchema, typeof statusSchema>;
