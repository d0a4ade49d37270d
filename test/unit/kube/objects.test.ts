import { describe, expect, it } from 'vitest';
import { keyOf, refOf } from '../../../src/kube/objects.ts';
import { collectionPath, objectPath } from '../../../src/kube/client/resource-type.ts';
import { thingType } from '../../fakes/kube-scene.ts';

describe('the key of an object', () => {
  it.each([
    ['media/debian', { namespace: 'media', name: 'debian' }],
    ['worker-1', { name: 'worker-1' }],
  ])('is %s, and tells where the object is', (key, ref) => {
    expect(keyOf(ref)).toBe(key);
    expect(refOf(key)).toEqual(ref);
  });
});

describe('the path of an object', () => {
  it('has the namespace where the type has one, and cannot be led astray by a name', () => {
    const root = '/apis/test.lamina.storage/v1';
    expect(collectionPath(thingType)).toBe(`${root}/things`);
    expect(collectionPath(thingType, 'media')).toBe(`${root}/namespaces/media/things`);
    const ref = { namespace: 'media', name: '../../secrets' };
    expect(objectPath(thingType, ref, 'status')).toBe(`${root}/namespaces/media/things/..%2F..%2Fsecrets/status`);
    const nodeType = { ...thingType, group: '', plural: 'nodes', namespaced: false };
    expect(objectPath(nodeType, { namespace: 'media', name: 'worker-1' })).toBe('/api/v1/nodes/worker-1');
  });
});
