import { driverName } from '../../api/names.ts';
import {
  type GetPluginCapabilitiesResponse,
  type GetPluginInfoResponse,
  type IdentityService,
  PluginCapability_Service_Type as Service,
  PluginCapability_VolumeExpansion_Type as Expansion,
  type ProbeResponse,
} from '../../gen/csi.ts';
import { LaminaError, messageOf } from '../../lib/errors.ts';
import type { RpcMethods } from '../rpc.ts';

export interface IdentityContext {
  /** Of this build. */
  version: string;
  /** Whether controller and node can serve; false while they start. Throws where they never will without help. */
  ready: () => Promise<boolean>;
}

export function identityMethods(context: IdentityContext): RpcMethods<IdentityService> {
  return {
    getPluginInfo: async () => pluginInfo(context.version),
    getPluginCapabilities: async () => pluginCapabilities(),
    probe: () => probe(context),
  };
}

function pluginInfo(version: string): GetPluginInfoResponse {
  return { name: driverName, vendorVersion: version, manifest: {} };
}

function pluginCapabilities(): GetPluginCapabilitiesResponse {
  return {
    capabilities: [
      { type: { $case: 'service', value: { type: Service.CONTROLLER_SERVICE } } },
      { type: { $case: 'service', value: { type: Service.VOLUME_ACCESSIBILITY_CONSTRAINTS } } },
      { type: { $case: 'volumeExpansion', value: { type: Expansion.ONLINE } } },
    ],
  };
}

async function probe({ ready }: IdentityContext): Promise<ProbeResponse> {
  try {
    return { ready: await ready() };
  } catch (error) {
    throw new LaminaError('plugin-unhealthy', `this plugin cannot serve: ${messageOf(error)}`, { cause: error });
  }
}
