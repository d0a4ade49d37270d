import * as z from 'zod';
import {
  defaultPoolName,
  parameterNames,
  provisionerMetadataNames,
  snapshotterMetadataNames,
} from '../../api/names.ts';
import { KiB, MiB, parseBytes } from '../../lib/bytes.ts';
import { invalid } from '../validation/text.ts';
import { type DiskOptions, type TransferMode, transferModes } from './disk-service.ts';

const minClusterSize = 4 * KiB;
const maxClusterSize = 2 * MiB;

const trueOrFalse = z.enum(['true', 'false']).transform((text) => text === 'true');

const clusterSize = z.string().transform((text, context) => {
  const bytes = parseBytes(text);
  // A power of two has one bit.
  if (bytes !== undefined && bytes >= minClusterSize && bytes <= maxClusterSize && (bytes & (bytes - 1)) === 0)
    return bytes;
  context.addIssue({ code: 'custom', message: 'expected a power of two from 4Ki to 2Mi' });
  return z.NEVER;
});

const metadata = z.string().optional();
const metadataShape = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, metadata]));

const parametersSchema = z
  .strictObject({
    [parameterNames.format]: z.enum(['qcow2', 'raw']).default('qcow2'),
    [parameterNames.preallocation]: z.enum(['off', 'metadata', 'falloc', 'full']).default('off'),
    [parameterNames.pool]: z.string().optional(),
    [parameterNames.clusterSize]: clusterSize.optional(),
    [parameterNames.liveSnapshots]: trueOrFalse.default(false),
    [parameterNames.transfer]: z.enum(transferModes).default('images'),
    [parameterNames.fsType]: z.enum(['ext4', 'xfs', 'btrfs']).optional(),
    [provisionerMetadataNames[0]]: metadata,
    [provisionerMetadataNames[1]]: metadata,
    [provisionerMetadataNames[2]]: metadata,
  })
  .superRefine((parameters, context) => {
    if (parameters.format === 'qcow2') return;
    if (parameters.preallocation === 'metadata') {
      context.addIssue({
        code: 'custom',
        path: ['preallocation'],
        message: "'metadata' is for format qcow2 only: a raw file has none",
      });
    }
    if (parameters.clusterSize !== undefined) {
      context.addIssue({
        code: 'custom',
        path: ['clusterSize'],
        message: 'is for format qcow2 only: a raw file has no clusters',
      });
    }
  });

const mutableParametersSchema = z.strictObject({ [parameterNames.liveSnapshots]: trueOrFalse.optional() });

const snapshotParametersSchema = z.strictObject(metadataShape(snapshotterMetadataNames));

export interface VolumeParameters {
  options: DiskOptions;
  pool: string;
  transfer: TransferMode;
  /** `namespace/name` of the claim, as far as the provisioner tells it. */
  claim: string | null;
  /** Of the StorageClass; the capability's file system is what counts, and must be the same. */
  fsType: string | null;
}

/**
 * StorageClass parameters.
 *
 * @throws LaminaError `invalid-parameter` that names every parameter that is unknown or has a wrong value
 */
export function parseVolumeParameters(given: Record<string, string>): VolumeParameters {
  const parameters = parse('parameters', parametersSchema, Object.values(parameterNames), given);
  const [claimName, claimNamespace] = provisionerMetadataNames.map((name) => parameters[name]);
  return {
    options: {
      format: parameters.format,
      preallocation: parameters.preallocation,
      clusterSizeBytes: parameters.clusterSize ?? null,
      liveSnapshots: parameters.liveSnapshots,
    },
    pool: parameters.pool ?? defaultPoolName,
    transfer: parameters.transfer,
    claim: claimName && claimNamespace ? `${claimNamespace}/${claimName}` : null,
    fsType: parameters[parameterNames.fsType] ?? null,
  };
}

/** VolumeAttributesClass parameters: what can be changed of a volume that exists. @throws LaminaError `invalid-parameter` */
export function parseMutableParameters(given: Record<string, string>): { liveSnapshots?: boolean } {
  const { liveSnapshots } = parse('mutable_parameters', mutableParametersSchema, [parameterNames.liveSnapshots], given);
  return liveSnapshots === undefined ? {} : { liveSnapshots };
}

/** VolumeSnapshotClass parameters, of which there are none. @throws LaminaError `invalid-parameter` */
export function checkSnapshotParameters(given: Record<string, string>): void {
  parse('parameters', snapshotParametersSchema, [], given);
}

function parse<Schema extends z.ZodType>(
  field: string,
  schema: Schema,
  known: readonly string[],
  given: Record<string, string>,
): z.output<Schema> {
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => {
    if (issue.code === 'unrecognized_keys') {
      const names = issue.keys.map((key) => `'${key}'`).join(', ');
      return `not known: ${names}; ${known.length > 0 ? `known are ${known.join(', ')}` : 'there are none'}`;
    }
    const name = issue.path.join('.');
    return `${name} is '${given[name]}': ${issue.message}`;
  });
  throw invalid(`${field}: ${problems.join('; ')}`);
}
