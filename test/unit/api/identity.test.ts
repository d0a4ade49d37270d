import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { identityOf, idOfPlace, objectOfRecord, placeOfReference } from '../../../src/api/identity.ts';
import { annotations } from '../../../src/api/names.ts';
import { diskIdOf } from '../../../src/store/ids.ts';

const system = 'lamina-system';
const hashed = /^sha256-[0-9a-f]{48}$/;

function object(namespace: string, name: string, csiName?: string) {
  return {
    metadata: { namespace, name, annotations: csiName === undefined ? {} : { [annotations.csiName]: csiName } },
  };
}

/** As Kubernetes has them. */
const label = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?$/);
const subdomain = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'));

describe('the identity of an object', () => {
  it('that CSI asked for is what CSI called it, and its id is its own name', () => {
    const name = 'pvc-7d3f8f5e-9f0c-4a6e-8a0e-6d1c2f3b4a5d';
    expect(identityOf(object(system, name, name), system)).toEqual({ recordName: name, id: name });
    const odd = diskIdOf('Odd Name');
    expect(identityOf(object(system, odd, 'Odd Name'), system)).toEqual({ recordName: 'Odd Name', id: odd });
  });

  it('that a user declared is where it is', () => {
    const { recordName, id } = identityOf(object('media', 'debian'), system);
    expect(recordName).toBe('media/debian');
    expect(id).toMatch(hashed);
    expect(id).toBe(diskIdOf('media/debian'));
  });

  it('that was declared beside those of CSI is its name', () => {
    expect(identityOf(object(system, 'golden'), system)).toEqual({ recordName: 'golden', id: 'golden' });
    const long = 'a'.repeat(100);
    expect(identityOf(object(system, long), system)).toEqual({ recordName: long, id: diskIdOf(long) });
  });

  it('cannot be made that of another by an annotation', () => {
    const mine = identityOf(object('media', 'mine'), system);
    expect(identityOf(object('media', 'mine', 'pvc-of-another'), system)).toEqual(mine);
    expect(identityOf(object(system, 'mine', 'pvc-of-another'), system)).toEqual({ recordName: 'mine', id: 'mine' });
  });

  it('stays when its annotation is lost', () => {
    const odd = diskIdOf('Odd Name');
    expect(identityOf(object(system, odd), system).id).toBe(odd);
  });

  it('is that of no other object', () => {
    const places = fc.uniqueArray(fc.tuple(fc.constantFrom('media', 'a', system), subdomain), {
      selector: ([namespace, name]) => `${namespace}/${name}`,
    });
    fc.assert(
      fc.property(places, (all) => {
        const ids = all.map(([namespace, name]) => identityOf(object(namespace, name), system).id);
        expect(new Set(ids).size).toBe(all.length);
      }),
    );
  });

  it('is known of an object that is gone', () => {
    fc.assert(
      fc.property(fc.constantFrom('media', system), subdomain, (namespace, name) => {
        expect(idOfPlace({ namespace, name }, system)).toBe(identityOf(object(namespace, name), system).id);
      }),
    );
  });
});

describe('a source', () => {
  it('is in the namespace of what names it', () => {
    const place = { namespace: 'media', name: 'debian' };
    expect(placeOfReference(object('media', 'mine'), { name: 'debian' }, system)).toEqual(place);
    expect(placeOfReference(object('media', 'mine'), place, system)).toEqual(place);
  });

  it('may be in another one for the system only', () => {
    const place = { namespace: 'media', name: 'debian' };
    expect(placeOfReference(object(system, 'pvc-1'), place, system)).toEqual(place);
    for (const namespace of ['media', system, '']) {
      const take = () => placeOfReference(object('shop', 'mine'), { namespace, name: 'debian' }, system);
      expect(take).toThrow(expect.objectContaining({ code: 'invalid-parameter' }));
      expect(take).toThrow('may start from what is in another namespace');
    }
  });
});

describe('the object of a record', () => {
  it('is where a user declared it', () => {
    expect(objectOfRecord('media/debian', system)).toEqual({ namespace: 'media', name: 'debian' });
  });

  it('is in the namespace of the system, called by its id, where CSI asked for it', () => {
    expect(objectOfRecord('pvc-1', system)).toEqual({ namespace: system, name: 'pvc-1', csiName: 'pvc-1' });
    const csiName = 'Odd Name';
    expect(objectOfRecord(csiName, system)).toEqual({ namespace: system, name: diskIdOf(csiName), csiName });
  });

  it.each(['/', '//', 'a/', '/b', 'a/b/c', 'A/b', 'a/B', 'a b/c', `${system}/x`, 'a..b/c', 'a/b..c'])(
    'is no object of a user where the name cannot be one: %j',
    (recordName) => {
      expect(objectOfRecord(recordName, system)).toMatchObject({ namespace: system, csiName: recordName });
    },
  );

  it('has the identity of the record, and a name that Kubernetes takes', () => {
    const names = fc.oneof(
      subdomain,
      fc.tuple(label, subdomain).map((parts) => parts.join('/')),
      fc.string({ minLength: 1, maxLength: 130, unit: 'binary' }),
      fc.stringMatching(/^[a-z.-]{1,70}$/),
    );
    fc.assert(
      fc.property(names, (recordName) => {
        const { namespace, name, csiName } = objectOfRecord(recordName, system);
        const identity = identityOf(object(namespace, name, csiName), system);
        expect(identity).toEqual({ recordName, id: diskIdOf(recordName) });
        expect(name).toMatch(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/);
        expect(name.length).toBeLessThanOrEqual(253);
      }),
    );
  });

  it('of an object that is lost is the same, or one that stands for the same', () => {
    fc.assert(
      fc.property(fc.constantFrom('media', system), subdomain, (namespace, name) => {
        const { recordName, id } = identityOf(object(namespace, name), system);
        const again = objectOfRecord(recordName, system);
        expect(idOfPlace(again, system)).toBe(id);
        expect(again.namespace).toBe(namespace);
      }),
    );
  });
});
