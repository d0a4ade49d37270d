import { orchestratorContextPrefixes } from '../../api/names.ts';
import type { ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse } from '../../gen/csi.ts';
import { isLaminaError } from '../../lib/errors.ts';
import { parseCapabilities, whyUnsupported } from '../validation/capability.ts';
import { requireId } from '../validation/text.ts';
import type { ControllerContext } from './controller.ts';
import type { DiskService } from './disk-service.ts';
import { parseMutableParameters, parseVolumeParameters } from './parameters.ts';

/** Confirms all that was asked, or says in a message what does not hold. */
export async function validateVolumeCapabilities(
  request: ValidateVolumeCapabilitiesRequest,
  { disks }: ControllerContext,
): Promise<ValidateVolumeCapabilitiesResponse> {
  const volumeId = requireId('volume_id', request.volumeId);
  const capabilities = parseCapabilities('volume_capabilities', request.volumeCapabilities);
  await disks.getDisk(volumeId);
  const reason =
    whyUnsupported(capabilities) ?? whyForeign(request.volumeContext) ?? (await whyInvalid(request, disks));
  if (reason !== null) return { confirmed: undefined, message: reason };
  const { volumeContext, volumeCapabilities, parameters, mutableParameters } = request;
  return { confirmed: { volumeContext, volumeCapabilities, parameters, mutableParameters }, message: '' };
}

/** Our volumes have an empty context, to which orchestrators add keys of their own. */
function whyForeign(context: Record<string, string>): string | null {
  const foreign = Object.keys(context).find(
    (key) => !orchestratorContextPrefixes.some((prefix) => key.startsWith(prefix)),
  );
  return foreign === undefined ? null : `volume_context: '${foreign}' is not of this plugin`;
}

async function whyInvalid(request: ValidateVolumeCapabilitiesRequest, disks: DiskService): Promise<string | null> {
  try {
    const { pool } = parseVolumeParameters(request.parameters);
    parseMutableParameters(request.mutableParameters);
    await disks.requirePool(pool);
    return null;
  } catch (error) {
    if (isLaminaError(error, 'invalid-parameter')) return error.message;
    throw error;
  }
}
