import * as z from 'zod';
import { conditionsField, count, digest, diskFormats, poolName, quantityReport, subdomain, text } from './fields.ts';

const copySchema = z
  .object({
    nodeName: subdomain.meta({ description: 'The node that has the copy, or is to get it.' }),
    ready: z.boolean().meta({ description: 'Whether it is whole, so that disks can start from it there.' }),
    allocated: quantityReport('What it takes of the pool there; rounded to three digits.').optional(),
    message: text.meta({ description: 'What stands in its way, and what to do.' }).optional(),
  })
  .meta({ description: 'A copy on another node than status.nodeName.' });

const originSchema = z
  .object({
    kind: z.enum(['disk', 'snapshot', 'image']).meta({ description: 'What it is in its pool.' }),
    id: z.string().min(1).max(128).meta({ description: 'What it is called in its pool.' }),
    nodeName: subdomain.meta({ description: 'The node that has it.' }),
    pool: poolName.meta({ description: 'Name of the pool that holds it.' }).optional(),
  })
  .meta({ description: 'What spec.source is in the pools, as the controller has found out.' });

/** What is reported of a DiskImage. */
export const diskImageStatus = z
  .object({
    observedGeneration: count.meta({ description: 'The metadata.generation that the status is about.' }).optional(),
    conditions: conditionsField,
    diskId: z.string().max(128).meta({ description: 'What the disk is called in its pool.' }).optional(),
    nodeName: subdomain.meta({ description: 'The node that has the disk.' }).optional(),
    origin: originSchema.optional(),
    virtualSize: quantityReport('How big the disk looks to what uses it.').optional(),
    allocated: quantityReport(
      'What its own image file takes of the pool, without what it shares with others; rounded to three digits, so that it is written only when that changes.',
    ).optional(),
    format: z.enum(diskFormats).meta({ description: 'How the disk is kept on its node.' }).optional(),
    chainDepth: count
      .meta({ description: 'How many image files it is made of, its own and those it shares.' })
      .optional(),
    attached: z
      .boolean()
      .meta({ description: 'Whether the node has it as a block device, for pods to use.' })
      .optional(),
    progress: z
      .string()
      .max(4)
      .regex(/^(100|[1-9]?[0-9])%$/)
      .meta({ description: 'How far the disk is made, while it is and that is known.' })
      .optional(),
    importedBytes: count
      .meta({ description: 'How many bytes were taken from the source, as they are there.' })
      .optional(),
    digest: digest
      .meta({ description: 'What was imported: of a file its checksum, of a container image its digest.' })
      .optional(),
    copies: z
      .array(copySchema)
      .max(1024)
      .meta({
        description: 'Copies of a sealed DiskImage on other nodes.',
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['nodeName'],
      })
      .optional()
      .transform((copies) => copies ?? []),
  })
  .meta({ description: 'What is.' });
