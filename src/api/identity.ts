import { derivedId, isDerivedId } from '../lib/derived-id.ts';
import { LaminaError } from '../lib/errors.ts';
import { namespaceName, subdomain } from './fields.ts';
import { annotations } from './names.ts';

/** Which disk, snapshot or image of a pool is an object's: the pool holds it under this id, and its record has this name. */
export interface Identity {
  recordName: string;
  id: string;
}

export interface Place {
  namespace: string;
  name: string;
}

/** Where the object of a record is, or is to be declared again. */
export interface Declared extends Place {
  /** For the annotation; the record's name, of which the object's own is derived. Only in the namespace of the system. */
  csiName?: string;
}

interface Named {
  metadata: {
    name: string;
    namespace?: string | undefined;
    annotations?: Readonly<Record<string, string>> | undefined;
  };
}

/**
 * What a pool calls what a DiskImage or DiskSnapshot stands for. It depends on where the object is and what it is
 * called, never on what people can edit, so that nobody gets hold of another's disk; and its record's name tells whose
 * it was when all objects are lost.
 */
export function identityOf({ metadata }: Named, systemNamespace: string): Identity {
  const { name, namespace = '' } = metadata;
  const id = idOfPlace({ name, namespace }, systemNamespace);
  if (namespace !== systemNamespace) return { recordName: `${namespace}/${name}`, id };
  const csiName = metadata.annotations?.[annotations.csiName];
  return { recordName: csiName !== undefined && derivedId(csiName) === id ? csiName : name, id };
}

/** The id alone, of an object that may be gone. */
export function idOfPlace({ namespace, name }: Place, systemNamespace: string): string {
  if (namespace !== systemNamespace) return derivedId(`${namespace}/${name}`);
  // What CSI asked for is called by its id.
  return isDerivedId(name) ? name : derivedId(name);
}

/**
 * Where the object is that another one names as its source.
 *
 * @throws LaminaError `invalid-parameter` where that is in another namespace, of which only the system may take
 */
export function placeOfReference(
  { metadata }: Named,
  to: { name: string; namespace?: string | undefined },
  systemNamespace: string,
): Place {
  const { namespace: own = '' } = metadata;
  const { name, namespace = own } = to;
  if (namespace === own || own === systemNamespace) return { namespace, name };
  throw new LaminaError(
    'invalid-parameter',
    `source names ${name} in the namespace ${namespace}, but only DiskImages in ${systemNamespace} may start from what is in another namespace: declare a new DiskImage there, or with a source in ${own}`,
  );
}

/** The object of the record of that name: `identityOf` of it gives that name again. */
export function objectOfRecord(recordName: string, systemNamespace: string): Declared {
  const [namespace = '', name = '', ...rest] = recordName.split('/');
  const isObject = namespaceName.safeParse(namespace).success && subdomain.safeParse(name).success && rest.length === 0;
  if (isObject && namespace !== systemNamespace) return { namespace, name };
  return { namespace: systemNamespace, name: derivedId(recordName), csiName: recordName };
}
