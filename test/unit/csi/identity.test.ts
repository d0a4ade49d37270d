import { describe, expect, it } from 'vitest';
import {
  PluginCapability_Service_Type as Service,
  PluginCapability_VolumeExpansion_Type as Expansion,
} from '../../../src/gen/csi.ts';
import { failureOf, startFakeCsi } from '../../fakes/csi.ts';

describe('Identity', () => {
  it('says name and version', async () => {
    await using csi = await startFakeCsi();
    expect(await csi.client.identity.getPluginInfo()).toEqual({
      name: 'csi.lamina.storage',
      vendorVersion: '1.2.3',
      manifest: {},
    });
  });

  it('has a controller, volumes of one node, and expansion of volumes in use', async () => {
    await using csi = await startFakeCsi();
    const { capabilities } = await csi.client.identity.getPluginCapabilities();
    expect(capabilities.map(({ type }) => type)).toEqual([
      { $case: 'service', value: { type: Service.CONTROLLER_SERVICE } },
      { $case: 'service', value: { type: Service.VOLUME_ACCESSIBILITY_CONSTRAINTS } },
      { $case: 'volumeExpansion', value: { type: Expansion.ONLINE } },
    ]);
  });

  it('is not ready while it starts, ready then, and FAILED_PRECONDITION with the reason where it cannot serve', async () => {
    let ready = async () => false;
    await using csi = await startFakeCsi({ ready: () => ready() });
    expect(await csi.client.identity.probe()).toEqual({ ready: false });
    ready = async () => true;
    expect(await csi.client.identity.probe()).toEqual({ ready: true });
    ready = async () => {
      throw new Error('the data path corrupts');
    };
    expect(await failureOf(csi.client.identity.probe())).toBe(
      'FAILED_PRECONDITION: [plugin-unhealthy] this plugin cannot serve: the data path corrupts',
    );
  });
});
