import { VolumeCapability_AccessMode_Mode as Mode, type VolumeCapability } from '../../gen/csi.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { VolumeAccess } from '../node/node-service.ts';
import { invalid } from './text.ts';

/** A volume capability that is complete, though not necessarily one we can serve. */
export interface Capability {
  access: VolumeAccess;
  mode: Mode;
  mountGroup: string;
}

const filesystems = ['ext4', 'xfs', 'btrfs'];
const maxMountFlagsBytes = 4096;

const servedModes: readonly Mode[] = [
  Mode.SINGLE_NODE_WRITER,
  Mode.SINGLE_NODE_READER_ONLY,
  Mode.SINGLE_NODE_SINGLE_WRITER,
  Mode.SINGLE_NODE_MULTI_WRITER,
];

/** @throws LaminaError `invalid-parameter` where none is given, or one lacks its access type or mode */
export function parseCapabilities(field: string, given: readonly VolumeCapability[]): Capability[] {
  if (given.length === 0) throw invalid(`${field} is required and was not given`);
  return given.map((capability) => parseCapability(field, capability));
}

/** @throws LaminaError `invalid-parameter` */
export function parseCapability(field: string, given: VolumeCapability | undefined): Capability {
  if (!given) throw invalid(`${field} is required and was not given`);
  const mode = given.accessMode?.mode ?? Mode.UNKNOWN;
  if (mode === Mode.UNKNOWN) throw invalid(`${field} has no access mode`);
  switch (given.accessType?.$case) {
    case undefined:
      throw invalid(`${field} has no access type; 'block' or 'mount' is required`);
    case 'block':
      return { access: { kind: 'block' }, mode, mountGroup: '' };
    case 'mount': {
      const { fsType, mountFlags, volumeMountGroup } = given.accessType.value;
      if (Buffer.byteLength(mountFlags.join()) > maxMountFlagsBytes) {
        throw invalid(`${field} has more than ${maxMountFlagsBytes} bytes of mount flags`);
      }
      return { access: { kind: 'mount', fsType: fsType || null, mountFlags }, mode, mountGroup: volumeMountGroup };
    }
  }
}

/** Why a volume cannot be used in all these ways, or null where it can. */
export function whyUnsupported(capabilities: readonly Capability[]): string | null {
  for (const { access, mode, mountGroup } of capabilities) {
    if (!servedModes.includes(mode)) {
      return `access mode ${modeName(mode)} is not served: a volume is a disk of one node, so use one of ${servedModes.map(modeName).join(', ')}`;
    }
    if (access.kind === 'block') {
      // A read-only mount of a device node does not keep anybody from writing to the device.
      if (mode === Mode.SINGLE_NODE_READER_ONLY)
        return 'access mode SINGLE_NODE_READER_ONLY is served for mounted volumes only';
    } else if (access.fsType !== null && !filesystems.includes(access.fsType)) {
      return `file system '${access.fsType}' is not known; use one of ${filesystems.join(', ')}`;
    }
    if (mountGroup !== '') return 'volume_mount_group is not served: this plugin does not have VOLUME_MOUNT_GROUP';
  }
  if (new Set(capabilities.map(({ access }) => access.kind)).size > 1) {
    return 'a volume is used either as a block device or with a file system, not as both';
  }
  return null;
}

/** @throws LaminaError `invalid-parameter` where they are incomplete or not served: the answer of the Controller service */
export function requireServedCapabilities(field: string, given: readonly VolumeCapability[]): Capability[] {
  const capabilities = parseCapabilities(field, given);
  const reason = whyUnsupported(capabilities);
  if (reason !== null) throw invalid(`${field}: ${reason}`);
  return capabilities;
}

/**
 * The answer of the Node service, for which the specification wants another code.
 *
 * @throws LaminaError `invalid-parameter` where it is incomplete, `capability-unsupported` where it is not served
 */
export function requireUsableCapability(field: string, given: VolumeCapability | undefined): Capability {
  const capability = parseCapability(field, given);
  const reason = whyUnsupported([capability]);
  if (reason !== null) throw new LaminaError('capability-unsupported', `${field}: ${reason}`);
  return capability;
}

function modeName(mode: Mode): string {
  return Object.entries(Mode).find(([, value]) => value === mode)?.[0] ?? String(mode);
}
