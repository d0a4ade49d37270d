import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isConflict } from '../../../src/kube/client/api-error.ts';
import { ensureObject, patchObject, writeStatus } from '../../../src/kube/apply.ts';
import { ensureFinalizer, removeFinalizerIfPresent } from '../../../src/kube/finalizers.ts';
import { isOwnedBy, ownerReference } from '../../../src/kube/owners.ts';
import { type Scene, startScene, type Thing, thingType } from '../../fakes/kube-scene.ts';

let scene: Scene;
const ref = { namespace: 'media', name: 'a' };
const finalizer = 'test.lamina.storage/files';

beforeEach(async () => {
  scene = await startScene();
});

afterEach(() => scene.stop());

async function read(name = 'a'): Promise<Thing> {
  const thing = await scene.things.get({ namespace: 'media', name });
  return thing ?? expect.unreachable(`there is no ${name}`);
}

describe('ensuring an object', () => {
  const ensure = (live: Thing | undefined, wanted: object, metadata: object = {}) =>
    ensureObject(scene.things, live, { metadata: { ...ref, ...metadata }, spec: wanted }, { fieldManager: 'test' });

  it('makes it where it is not there, and does nothing where it is as it is wanted, however that is written', async () => {
    const made = await ensure(undefined, { size: '1Ti' }, { labels: { team: 'red' } });
    expect(made).toMatchObject({ spec: { sizeGi: 1024, pool: 'default' }, metadata: { labels: { team: 'red' } } });
    const same = await ensure(made, { size: '1024Gi', pool: 'default' });
    expect(same).toBe(made);
    expect(scene.server.writes).toHaveLength(1);
  });

  it('changes what differs, and removes what is not wanted any more', async () => {
    const made = await ensure(undefined, { size: '1Gi', node: 'x' });
    const changed = await ensure(made, { size: '2Gi' });
    expect(changed.spec).toEqual({ sizeGi: 2, pool: 'default' });
    const labelled = await ensure(changed, { size: '2Gi' }, { labels: { a: 'b' } });
    expect(labelled.metadata.labels).toEqual({ a: 'b' });
  });

  it('leaves alone what others have set', async () => {
    const made = await ensure(undefined, { size: '1Gi' });
    scene.server.objects.mergePatch(scene.at('a'), { metadata: { labels: { theirs: 'yes' } } });
    scene.server.objects.mergePatch({ ...scene.at('a'), subresource: 'status' }, { status: { phase: 'Ready' } });
    const changed = await ensure(made, { size: '2Gi' });
    expect(changed).toMatchObject({ metadata: { labels: { theirs: 'yes' } }, status: { phase: 'Ready' } });
  });

  it('is a conflict where another manager wants something else, unless it is forced', async () => {
    await scene.things.apply({ metadata: ref, ...{ spec: { size: '5Gi' } } }, { fieldManager: 'other' });
    const failure = await ensure(await read(), { size: '2Gi' }).catch((error: unknown) => error);
    expect(isConflict(failure)).toBe(true);
    const options = { fieldManager: 'test', force: true };
    const forced = await ensureObject(scene.things, await read(), { metadata: ref, spec: { size: '2Gi' } }, options);
    expect(forced.spec.sizeGi).toBe(2);
  });
});

describe('writing the status', () => {
  it('writes what differs only, and nothing where nothing does', async () => {
    scene.make('a');
    const first = await writeStatus(scene.things, await read(), { used: '1Ti', phase: 'Ready' });
    expect(first.status).toEqual({ used: 1024, phase: 'Ready' });
    const second = await writeStatus(scene.things, first, { used: '1024Gi', phase: undefined });
    expect(second).toBe(first);
    const third = await writeStatus(scene.things, first, { used: '2Gi', phase: 'Ready' });
    expect(scene.server.requests.at(-1)?.body).toEqual({
      metadata: { resourceVersion: first.metadata.resourceVersion },
      status: { used: '2Gi' },
    });
    expect(third.metadata.generation).toBe(1);
    expect(scene.server.writes).toHaveLength(2);
  });

  it('removes members by null, once', async () => {
    scene.make('a');
    const written = await writeStatus(scene.things, await read(), { used: '1Gi', phase: 'Ready' });
    const removed = await writeStatus(scene.things, written, { phase: null });
    expect(removed.status).toEqual({ used: 1 });
    await writeStatus(scene.things, removed, { phase: null });
    expect(scene.server.writes).toHaveLength(2);
  });

  it('is a conflict where the object has changed since', async () => {
    scene.make('a');
    const old = await read();
    scene.server.objects.mergePatch(scene.at('a'), { spec: { size: '2Gi' } });
    const failure = await writeStatus(scene.things, old, { phase: 'Ready' }).catch((error: unknown) => error);
    expect(isConflict(failure)).toBe(true);
  });

  it('refuses members that the status does not have, which would be written again and again', async () => {
    scene.make('a');
    const strict = { ...thingType, parseStatus: (json: unknown) => ({ phase: (json as { phase?: string }).phase }) };
    const things = Object.create(scene.things, { type: { value: strict } }) as typeof scene.things;
    await expect(writeStatus(things, await read(), { phaze: 'Ready' })).rejects.toMatchObject({
      code: 'resource-invalid',
      message: 'the status of a Thing has no phaze',
    });
  });
});

describe('patching an object', () => {
  it('sends nothing where it would change nothing', async () => {
    scene.make('a', { node: 'x' }, { labels: { a: 'b' } });
    const live = await read();
    const same = { spec: { node: 'x', gone: null }, metadata: { labels: { a: 'b' }, annotations: null } };
    expect(await patchObject(scene.things, live, same)).toBe(live);
    expect(scene.server.writes).toEqual([]);
    const patched = await patchObject(scene.things, live, { spec: { node: 'y' }, metadata: { labels: { a: null } } });
    expect(patched).toMatchObject({ spec: { node: 'y' }, metadata: { generation: 2, labels: {} } });
  });

  it('does not overwrite what has changed meanwhile', async () => {
    scene.make('a');
    const old = await read();
    scene.server.objects.mergePatch(scene.at('a'), { spec: { node: 'x' } });
    const failure = await patchObject(scene.things, old, { spec: { node: 'y' } }).catch((error: unknown) => error);
    expect(isConflict(failure)).toBe(true);
  });
});

describe('a finalizer', () => {
  it('keeps the object until it is removed, each with one write', async () => {
    scene.make('a', {}, { finalizers: ['theirs/x'] });
    const kept = await ensureFinalizer(scene.things, await read(), finalizer);
    expect(kept.metadata.finalizers).toEqual(['theirs/x', finalizer]);
    await ensureFinalizer(scene.things, kept, finalizer);
    expect(scene.server.writes).toHaveLength(1);
    await scene.things.removeIfPresent(ref);
    await removeFinalizerIfPresent(scene.things, await read(), finalizer);
    expect((await read()).metadata.finalizers).toEqual(['theirs/x']);
    await removeFinalizerIfPresent(scene.things, await read(), finalizer);
    await removeFinalizerIfPresent(scene.things, await read(), 'theirs/x');
    expect(await scene.things.get(ref)).toBeUndefined();
  });

  it('is not added to an object that is being deleted, which the API server would refuse', async () => {
    scene.make('a', {}, { finalizers: ['theirs/x'] });
    await scene.things.removeIfPresent(ref);
    const leaving = await read();
    expect(await ensureFinalizer(scene.things, leaving, finalizer)).toBe(leaving);
  });

  it('of an object that is gone is gone, even where another of that name is there', async () => {
    scene.make('a', {}, { finalizers: [finalizer] });
    const old = await read();
    scene.server.objects.mergePatch(scene.at('a'), { metadata: { finalizers: [] } });
    scene.server.objects.remove(scene.at('a'));
    await removeFinalizerIfPresent(scene.things, old, finalizer);
    scene.make('a', {}, { finalizers: [finalizer] });
    await removeFinalizerIfPresent(scene.things, old, finalizer);
    expect((await read()).metadata.finalizers).toEqual([finalizer]);
  });

  it('of an object that has changed is a conflict', async () => {
    scene.make('a', {}, { finalizers: [finalizer] });
    const old = await read();
    scene.server.objects.mergePatch(scene.at('a'), { spec: { node: 'x' } });
    const failure = await removeFinalizerIfPresent(scene.things, old, finalizer).catch((error: unknown) => error);
    expect(isConflict(failure)).toBe(true);
  });
});

describe('an owner', () => {
  it('takes what it owns along', async () => {
    scene.make('owner');
    const owner = await read('owner');
    const reference = ownerReference(thingType, owner, { controller: true });
    expect(reference).toEqual({
      apiVersion: 'test.lamina.storage/v1',
      kind: 'Thing',
      name: 'owner',
      uid: owner.metadata.uid,
      controller: true,
    });
    scene.make('a', {}, { ownerReferences: [reference] });
    expect(isOwnedBy(await read(), owner)).toBe(true);
    expect(isOwnedBy(owner, await read())).toBe(false);
    await scene.things.removeIfPresent({ namespace: 'media', name: 'owner' });
    expect(await scene.things.get(ref)).toBeUndefined();
  });
});
