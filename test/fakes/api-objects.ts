import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../src/lib/clock.ts';
import { type Applied, type Json, mergePatch, serverSideApply } from './api-patch.ts';

/** A kind that the fake knows. */
export interface FakeType {
  group: string;
  version: string;
  kind: string;
  plural: string;
  namespaced: boolean;
  /** Whether the status is written by itself only; true unless given. */
  hasStatus?: boolean;
}

export interface FakeMetadata extends Json {
  name: string;
  namespace?: string;
  uid: string;
  resourceVersion: string;
  generation: number;
  creationTimestamp: string;
  deletionTimestamp?: string;
  finalizers?: string[];
  ownerReferences?: { uid: string }[];
}

export interface FakeObject extends Json {
  metadata: FakeMetadata;
}

export interface FakeChange {
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  collection: string;
  object: FakeObject;
  before: FakeObject | undefined;
  version: number;
}

export interface Address {
  type: FakeType;
  namespace: string;
  name: string;
  subresource: string;
}

/** A Status answer. */
export class StatusError extends Error {
  readonly status: number;
  readonly reason: string;
  readonly details: Json;

  constructor(status: number, reason: string, message: string, details: Json = {}) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.details = details;
  }
}

interface Entry {
  object: FakeObject;
  applied: Applied;
}

/** The objects of the fake API server, and all that has happened to them. */
export class ApiObjects {
  readonly history: FakeChange[] = [];
  readonly #clock: Pick<Clock, 'now'>;
  readonly #collections = new Map<string, { type: FakeType; entries: Map<string, Entry> }>();
  readonly #onChange: (change: FakeChange) => void;
  #version = 0;
  /** Of versions before it, the changes are forgotten. */
  #oldest = 0;

  constructor(clock: Pick<Clock, 'now'>, onChange: (change: FakeChange) => void) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  get version(): number {
    return this.#version;
  }

  get oldest(): number {
    return this.#oldest;
  }

  /** Forgets what has happened so far, as etcd's compaction. */
  compact(): void {
    this.history.length = 0;
    this.#version++;
    this.#oldest = this.#version;
  }

  list(type: FakeType, namespace = ''): FakeObject[] {
    const objects = [...this.#collection(type).values()].map(({ object }) => object);
    return objects
      .filter(({ metadata }) => namespace === '' || metadata.namespace === namespace)
      .sort((a, b) => (keyOf(a.metadata) < keyOf(b.metadata) ? -1 : 1));
  }

  get(address: Address): FakeObject {
    return this.#entry(address).object;
  }

  create({ type, namespace }: Pick<Address, 'type' | 'namespace'>, manifest: Json): FakeObject {
    const given = manifest['metadata'] as Json;
    const name =
      typeof given['name'] === 'string' ? given['name'] : `${String(given['generateName'])}${randomUUID().slice(0, 5)}`;
    const key = namespace ? `${namespace}/${name}` : name;
    if (this.#collection(type).has(key)) {
      throw new StatusError(409, 'AlreadyExists', `${type.plural} "${name}" already exists`, {
        name,
        kind: type.plural,
      });
    }
    const { status: _, ...withoutStatus } = manifest;
    const object = {
      ...(hasStatus(type) ? withoutStatus : manifest),
      metadata: {
        ...given,
        name,
        ...(type.namespaced ? { namespace } : {}),
        uid: randomUUID(),
        resourceVersion: this.#nextVersion(),
        generation: 1,
        creationTimestamp: this.#timestamp(),
      },
    } as FakeObject;
    this.#collection(type).set(key, { object, applied: new Map() });
    this.#tell('ADDED', type, object, undefined);
    return object;
  }

  replace(address: Address, manifest: Json): FakeObject {
    return this.#write(this.#entry(address), address, manifest);
  }

  mergePatch(address: Address, patch: Json): FakeObject {
    const entry = this.#entry(address);
    const patched = mergePatch(entry.object, patch) as Json;
    // Without a version in it, a patch is applied to whatever is there.
    return this.#write(entry, address, patched);
  }

  apply(address: Address, config: Json, options: { manager: string; force: boolean }): FakeObject {
    const { type, namespace, name, subresource } = address;
    const { apiVersion, kind, metadata, ...rest } = config;
    const { name: _, namespace: __, resourceVersion, ...ownMetadata } = metadata as Json;
    const owned = { metadata: ownMetadata, ...rest };
    const manager = `${options.manager}/${subresource}`;
    if (!this.#collection(type).has(keyOf({ namespace, name })) && subresource === '') {
      const made = this.create({ type, namespace }, { apiVersion, kind, ...rest, metadata: { ...ownMetadata, name } });
      this.#entry(address).applied.set(manager, owned);
      return made;
    }
    const entry = this.#entry(address);
    const result = serverSideApply(entry.object, owned, { applied: entry.applied, manager, force: options.force });
    if (Array.isArray(result['conflicts'])) {
      throw new StatusError(409, 'Conflict', `Apply failed with conflicts: ${result['conflicts'].join(', ')}`, {
        name,
      });
    }
    const version = resourceVersion ? { resourceVersion } : {};
    return this.#write(entry, address, { ...result, metadata: { ...(result as FakeObject).metadata, ...version } });
  }

  remove(address: Address, preconditions: { uid?: string; resourceVersion?: string } = {}): FakeObject {
    const { object } = this.#entry(address);
    const { uid, resourceVersion, finalizers = [], deletionTimestamp } = object.metadata;
    const isOther =
      (preconditions.uid ?? uid) !== uid || (preconditions.resourceVersion ?? resourceVersion) !== resourceVersion;
    if (isOther) throw conflict(address, 'the precondition does not hold');
    if (finalizers.length === 0) return this.#drop(address.type, object);
    if (deletionTimestamp) return object;
    const metadata = {
      ...object.metadata,
      deletionTimestamp: this.#timestamp(),
      generation: object.metadata.generation + 1,
    };
    return this.#store(address.type, { ...object, metadata });
  }

  #write(entry: Entry, address: Address, manifest: Json): FakeObject {
    const { type, subresource } = address;
    const before = entry.object;
    const given = manifest['metadata'] as FakeMetadata;
    if (given.resourceVersion && given.resourceVersion !== before.metadata.resourceVersion) {
      throw conflict(address, 'the object has been modified; please apply your changes to the latest version');
    }
    if (given.uid && given.uid !== before.metadata.uid) throw conflict(address, 'the uid is another one');
    const isStatus = subresource === 'status' || subresource === 'approval';
    const wanted = isStatus ? { ...before, status: manifest['status'] } : manifest;
    const status = hasStatus(type) && !isStatus ? before['status'] : wanted['status'];
    const metadata = { ...(isStatus ? before.metadata : given), ...immutable(before.metadata) };
    const after = withoutUndefined({ ...wanted, status, metadata }) as FakeObject;
    if (isDeepStrictEqual(after, before)) return before;
    const isChanged = !isDeepStrictEqual(contentOf(type, after), contentOf(type, before));
    if (isChanged) after.metadata = { ...after.metadata, generation: before.metadata.generation + 1 };
    const isLeaving = after.metadata.deletionTimestamp && (after.metadata.finalizers ?? []).length === 0;
    const stored = this.#store(type, after);
    return isLeaving ? this.#drop(type, stored) : stored;
  }

  #store(type: FakeType, changed: FakeObject): FakeObject {
    const key = keyOf(changed.metadata);
    const entry = this.#collection(type).get(key);
    const object = { ...changed, metadata: { ...changed.metadata, resourceVersion: this.#nextVersion() } };
    const before = entry?.object;
    this.#collection(type).set(key, { object, applied: entry?.applied ?? new Map() });
    this.#tell('MODIFIED', type, object, before);
    return object;
  }

  #drop(type: FakeType, before: FakeObject): FakeObject {
    this.#collection(type).delete(keyOf(before.metadata));
    const object = { ...before, metadata: { ...before.metadata, resourceVersion: this.#nextVersion() } };
    this.#tell('DELETED', type, object, before);
    this.#collectGarbage(before.metadata.uid);
    return object;
  }

  /** What the real one's controller manager does: objects go with the last of their owners. */
  #collectGarbage(owner: string): void {
    for (const { type, entries } of this.#collections.values()) {
      for (const { object } of [...entries.values()]) {
        const { namespace = '', name, ownerReferences = [] } = object.metadata;
        const isOrphan = ownerReferences.length > 0 && ownerReferences.every(({ uid }) => uid === owner);
        if (isOrphan) this.remove({ type, namespace, name, subresource: '' });
      }
    }
  }

  #entry({ type, namespace, name }: Address): Entry {
    const entry = this.#collection(type).get(keyOf({ namespace, name }));
    if (entry) return entry;
    throw new StatusError(404, 'NotFound', `${type.plural} "${name}" not found`, { name, kind: type.plural });
  }

  #collection(type: FakeType): Map<string, Entry> {
    const path = collectionOf(type);
    const known = this.#collections.get(path);
    if (known) return known.entries;
    const entries = new Map<string, Entry>();
    this.#collections.set(path, { type, entries });
    return entries;
  }

  #tell(type: FakeChange['type'], of: FakeType, object: FakeObject, before: FakeObject | undefined): void {
    const change = { type, collection: collectionOf(of), object, before, version: this.#version };
    this.history.push(change);
    this.#onChange(change);
  }

  #nextVersion(): string {
    this.#version++;
    return formatVersion(this.#version);
  }

  #timestamp(): string {
    return this.#clock
      .now()
      .toISOString()
      .replace(/\.\d+Z$/, 'Z');
  }
}

/** Versions are opaque, so these are no numbers. */
export function formatVersion(version: number): string {
  return `v${version.toString(36)}`;
}

/** NaN for what is no version. */
export function parseVersion(text: string): number {
  return text.startsWith('v') ? Number.parseInt(text.slice(1), 36) : Number.NaN;
}

/** `/apis/lamina.storage/v1alpha1/diskimages` */
export function collectionOf({ group, version, plural }: FakeType): string {
  return `${group ? `/apis/${group}` : '/api'}/${version}/${plural}`;
}

function keyOf({ namespace, name }: { namespace?: string; name: string }): string {
  return namespace ? `${namespace}/${name}` : name;
}

function hasStatus(type: FakeType): boolean {
  return type.hasStatus ?? true;
}

/** What makes a new generation when it changes. */
function contentOf(type: FakeType, { metadata: _, status, ...content }: Json): Json {
  return hasStatus(type) ? content : { ...content, status };
}

function immutable(metadata: FakeMetadata): Json {
  const { name, namespace, uid, resourceVersion, generation, creationTimestamp, deletionTimestamp } = metadata;
  return { name, namespace, uid, resourceVersion, generation, creationTimestamp, deletionTimestamp };
}

function withoutUndefined(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value)) as unknown;
}

function conflict({ type, name }: Address, what: string): StatusError {
  return new StatusError(409, 'Conflict', `Operation cannot be fulfilled on ${type.plural} "${name}": ${what}`, {
    name,
  });
}
