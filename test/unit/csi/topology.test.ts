import { describe, expect, it } from 'vitest';
import { parseTopologyRequirement } from '../../../src/csi/validation/topology.ts';
import { capability } from '../../csi-client.ts';
import { failureOf, startFakeCsi } from '../../fakes/csi.ts';

const on = (node: string) => ({ segments: { 'topology.lamina.storage/node': node } });
const everywhere = { segments: {} };
const foreign = { segments: { 'topology.kubernetes.io/zone': 'a' } };
const inZone = { segments: { ...on('a').segments, 'topology.kubernetes.io/zone': 'a' } };

describe('a topology requirement', () => {
  it.each([
    ['nothing at all', undefined, { allowed: null, preferred: [] }],
    ['no place', { requisite: [], preferred: [] }, { allowed: null, preferred: [] }],
    ['one node', { requisite: [on('a')], preferred: [on('a')] }, { allowed: ['a'], preferred: ['a'] }],
    [
      'several nodes in an order',
      { requisite: [on('a'), on('b'), on('c')], preferred: [on('c'), on('a'), on('c')] },
      { allowed: ['a', 'b', 'c'], preferred: ['c', 'a'] },
    ],
    ['a wish only', { requisite: [], preferred: [on('b'), on('a')] }, { allowed: null, preferred: ['b', 'a'] }],
    [
      'a wish that is not allowed',
      { requisite: [on('a')], preferred: [on('b'), on('a')] },
      { allowed: ['a'], preferred: ['a'] },
    ],
    [
      'a place that says nothing',
      { requisite: [on('a'), everywhere], preferred: [] },
      { allowed: null, preferred: [] },
    ],
    ['places that no node is in', { requisite: [foreign, inZone], preferred: [] }, { allowed: [], preferred: [] }],
  ])('of %s', (_, requirement, nodes) => {
    expect(parseTopologyRequirement(requirement)).toEqual(nodes);
  });
});

describe('CreateVolume', () => {
  it('passes on for which claim a volume is, as far as it is told', async () => {
    await using csi = await startFakeCsi();
    const create = async (name: string, parameters: Record<string, string>) => {
      await csi.client.controller.createVolume({
        name,
        volumeCapabilities: [capability({ kind: 'mount' })],
        parameters,
      });
      return csi.disks.disks.get(name)?.claim;
    };
    const parameters = { 'csi.storage.k8s.io/pvc/name': 'data', 'csi.storage.k8s.io/pvc/namespace': 'shop' };
    expect(await create('pvc-1', parameters)).toBe('shop/data');
    expect(await create('pvc-2', { 'csi.storage.k8s.io/pvc/name': 'data' })).toBeNull();
  });
});

describe('a pool that there is not', () => {
  it('has no capacity to tell, and no volume can have been made for it', async () => {
    await using csi = await startFakeCsi();
    const volumeCapabilities = [capability({ kind: 'mount' })];
    await csi.client.controller.createVolume({ name: 'pvc-1', volumeCapabilities });
    const parameters = { pool: 'fast' };
    expect(await failureOf(csi.client.controller.getCapacity({ parameters }))).toMatch(/^INVALID_ARGUMENT: .*'fast'/);
    const validate = csi.client.controller.validateVolumeCapabilities;
    const answer = await validate({ volumeId: 'pvc-1', volumeCapabilities, parameters });
    expect(answer).toMatchObject({ confirmed: undefined, message: expect.stringContaining("'fast'") });
  });
});
