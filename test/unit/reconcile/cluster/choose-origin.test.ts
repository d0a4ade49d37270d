import { describe, expect, it } from 'vitest';
import { type DiskImage, diskImages } from '../../../../src/api/objects.ts';
import { chooseOrigin } from '../../../../src/reconcile/cluster/choose-origin.ts';
import type { Origin } from '../../../../src/reconcile/origin.ts';

const at = '2026-01-01T00:00:00Z';

function image(name: string, nodeName: string, { spec = {}, status = {}, metadata = {} }: object & Parts = {}) {
  return diskImages.parse({
    apiVersion: 'lamina.storage/v1alpha1',
    kind: 'DiskImage',
    metadata: {
      name,
      namespace: 'media',
      uid: name,
      resourceVersion: '1',
      generation: 1,
      creationTimestamp: at,
      ...metadata,
    },
    spec: { nodeName, sealed: true, source: { type: 'diskImage', diskImage: { name: 'debian' } }, ...spec },
    status,
  });
}

interface Parts {
  spec?: object;
  status?: object;
  metadata?: object;
}

const ready = (id: string, more: object = {}) => ({
  status: {
    diskId: id,
    conditions: [{ type: 'Ready', status: 'True', reason: 'Made', message: '', lastTransitionTime: at }],
  },
  ...more,
});
const original = image('debian', 'a', ready('debian'));
const onB = image('copy-b', 'b', ready('copy-b'));
const onC = image('copy-c', 'c', ready('copy-c'));
const choose = (heir: DiskImage, copies: DiskImage[], unreachable: string[] = []) =>
  chooseOrigin(heir, original, { copies, isReachable: ({ nodeName }) => !unreachable.includes(nodeName) });
const nodeOf = (origin: Origin | 'near' | undefined) => (typeof origin === 'object' ? origin.nodeName : origin);

describe('a DiskImage of a sealed one', () => {
  it('is left to its node where the original is there, whatever copies there are', () => {
    expect(choose(image('heir', 'a'), [onB])).toBe('near');
  });

  it('starts from the copy on its own node, as long as that is whole and in its pool', () => {
    expect(choose(image('heir', 'b'), [onC, onB])).toEqual({
      kind: 'image',
      id: 'copy-b',
      nodeName: 'b',
      pool: 'default',
    });
    expect(nodeOf(choose(image('heir', 'b', { spec: { pool: 'fast' } }), [onB]))).toBe('a');
    expect(nodeOf(choose(image('heir', 'b'), [image('copy-b', 'b', { status: { diskId: 'copy-b' } })]))).toBe('a');
    const going = image('copy-b', 'b', ready('copy-b', { metadata: { deletionTimestamp: at } }));
    expect(nodeOf(choose(image('heir', 'b'), [going]))).toBe('a');
  });

  it('gets it from any that can be reached, spread over all of them', () => {
    const heirs = Array.from({ length: 60 }, (_, index) => image(`heir-${index}`, 'd'));
    const nodes = heirs.map((heir) => nodeOf(choose(heir, [onB, onC])));
    for (const node of ['a', 'b', 'c']) expect(nodes.filter((one) => one === node).length).toBeGreaterThan(8);
    for (const heir of heirs) expect(nodeOf(choose(heir, [onB, onC], ['a', 'c']))).toBe('b');
  });

  it('stays with what was chosen for as long as that can be reached', () => {
    const origin = { kind: 'image', id: 'copy-c', nodeName: 'c', pool: 'default' };
    for (let index = 0; index < 20; index++) {
      const heir = image(`heir-${index}`, 'd', { status: { origin } });
      expect(choose(heir, [onB, onC])).toEqual(origin);
      expect(nodeOf(choose(heir, [onB, onC], ['c', 'a']))).toBe('b');
    }
  });

  it('is told of the original where nothing can be reached, and of nothing before there is something', () => {
    expect(nodeOf(choose(image('heir', 'd'), [onB], ['a', 'b']))).toBe('a');
    const unmade = image('debian', 'a');
    expect(chooseOrigin(image('heir', 'd'), unmade, { copies: [], isReachable: () => true })).toBeUndefined();
  });
});
