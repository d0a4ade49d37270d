import { createHash, randomBytes } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskPools } from '../../src/api/objects.ts';
import { findCondition } from '../../src/kube/conditions.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { UploadSinks } from '../../src/reconcile/node/upload-sinks.ts';
import { removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { makeImage } from '../import-scene.ts';
import { NodeScene } from '../node-scene.ts';
import { UserScene } from '../user-scene.ts';

let directory: string;
let scene: NodeScene;
let users: UserScene;
let image: Buffer;

beforeEach(async () => {
  directory = temporaryDirectory();
  scene = await NodeScene.start(directory);
  const sinks = () => new UploadSinks(scene.context, scene.clientOf(diskPools));
  users = await UserScene.create(directory, { findSink: (wanted, signal) => sinks().find(wanted, signal) });
  image = makeImage(directory, 'qcow2');
});
afterEach(async () => {
  await users.close();
  await scene.stop();
  removeDirectory(directory);
});

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const where = '/diskimages/golden/upload';
const filesIn = (name: string) => readdirSync(path.join(directory, name));
const readyOf = async () => {
  const { status, reason, message } =
    findCondition((await scene.image('golden'))?.status.conditions ?? [], 'Ready') ?? {};
  return { status, reason, message };
};

async function declare(upload: object = {}, spec: object = {}): Promise<void> {
  scene.declareImage('golden', { size: undefined, source: { type: 'upload', upload }, ...spec });
  await scene.reconcileImage('golden');
}

const send = (bytes: Buffer, headers: Record<string, string> = {}) =>
  users.ask('PUT', where, { 'content-length': String(bytes.length), ...headers }, bytes);
const codeOf = ({ body }: { body: Buffer }) => (JSON.parse(body.toString()) as { code: string }).code;

/** Reconciles until what was uploaded has become an image, or was refused. */
async function settled(): Promise<void> {
  await expect
    .poll(async () => {
      await scene.reconcileImage('golden');
      return (await readyOf()).reason;
    })
    .not.toBe('Importing');
}

describe('a DiskImage that is uploaded', () => {
  it('waits for its file and says how, takes it, and disks start from it', async () => {
    await declare();
    const waiting = await readyOf();
    expect(waiting).toMatchObject({ status: 'False', reason: 'WaitingForUpload' });
    expect(waiting.message).toContain('kubectl lamina upload FILE golden -n media');
    const file = path.join(directory, 'file');
    writeFileSync(file, image);
    expect(JSON.parse(await users.curl(where, '-T', file))).toEqual({ receivedBytes: image.length });
    await settled();
    expect(await readyOf()).toMatchObject({ status: 'True', reason: 'Made' });
    const golden = await scene.image('golden');
    expect(golden?.status).toMatchObject({ virtualSize: 16 * MiB, digest: `sha256:${sha256(image)}` });
    expect(golden?.status.progress).toBeUndefined();
    const { pool } = scene.detached;
    const record = pool.image(golden?.status.diskId ?? '');
    execFileSync('qemu-img', ['compare', '-f', 'qcow2', '-F', 'qcow2', file, pool.chainLayer(record.layer).path]);
    expect(filesIn('incoming')).toEqual([]);
    scene.declareImage('heir', { size: '32Mi', source: { type: 'diskImage', diskImage: { name: 'golden' } } });
    await scene.reconcileImage('heir');
    expect((await scene.image('heir'))?.status).toMatchObject({ chainDepth: 2 });
    // Its content is what it is from now on.
    expect(codeOf(await send(image))).toBe('name-taken');
  });

  it('is written once while nobody sends anything', async () => {
    await declare();
    scene.takeWrites();
    expect(await scene.reconcileImage('golden')).toBe('done');
    expect(scene.takeWrites()).toBe(0);
  });

  it('is unpacked where it came compressed', async () => {
    await declare();
    const file = path.join(directory, 'file');
    writeFileSync(file, image);
    execFileSync('zstd', ['-q', file]);
    await users.curl(where, '-T', `${file}.zst`);
    await settled();
    expect((await scene.image('golden'))?.status).toMatchObject({ virtualSize: 16 * MiB });
  });

  it('tells how far it is, and goes on where it broke off, after a restart as well', async () => {
    await declare();
    const half = Math.floor(image.length / 2);
    const headers = { 'content-length': String(image.length) };
    const sending = new AbortController();
    const broken = users.ask('PUT', where, headers, undefined, (sent) => {
      sent.write(image.subarray(0, half));
      sending.signal.addEventListener('abort', () => sent.destroy());
    });
    const outcome = broken.catch(() => 'broken');
    await expect.poll(() => users.moves[0]?.bytes).toBe(half);
    sending.abort();
    expect(await outcome).toBe('broken');
    await expect.poll(() => users.moves[0]?.result).toBe('stopped');
    expect(users.log.entries.filter(({ level }) => level === 'error')).toEqual([]);
    await expect
      .poll(async () => {
        await scene.reconcileImage('golden');
        return readyOf();
      })
      .toMatchObject({ reason: 'WaitingForUpload', message: expect.stringContaining('broke off after') });
    const kept = (await scene.image('golden'))?.status.importedBytes ?? 0;
    expect(kept).toBeGreaterThanOrEqual(MiB);
    expect(kept).toBeLessThanOrEqual(half);
    await scene.restart();
    const known = await users.ask('HEAD', where);
    expect(known.headers['upload-offset']).toBe(String(kept));
    const range = `bytes ${kept}-${image.length - 1}/${image.length}`;
    const rest = image.subarray(kept);
    const digest = createHash('sha512').update(image).digest('base64');
    expect((await send(rest, { 'content-range': range, 'repr-digest': `sha-512=:${digest}:` })).status).toBe(200);
    await settled();
    expect((await scene.image('golden'))?.status.digest).toBe(`sha256:${sha256(image)}`);
  });

  it('is made of what has come whole before a restart', async () => {
    await declare();
    expect((await send(image)).status).toBe(200);
    await scene.restart();
    expect(codeOf(await send(image))).toBe('busy');
    await settled();
    expect(await readyOf()).toMatchObject({ reason: 'Made' });
  });

  it('refuses a file that adds up to something else, and takes the right one then', async () => {
    await declare({ checksum: `sha256:${sha256(image)}` });
    const wrong = await send(Buffer.concat([image, Buffer.alloc(512)]));
    expect([wrong.status, codeOf(wrong)]).toEqual([409, 'checksum-mismatch']);
    expect(wrong.body.toString()).toContain(sha256(image));
    expect(filesIn('incoming')).toEqual([]);
    const other = `sha-256=:${createHash('sha256').update('other').digest('base64')}:`;
    expect(codeOf(await send(image, { 'repr-digest': other }))).toBe('checksum-mismatch');
    expect((await send(image, { 'repr-digest': 'sha-256=:YQ==:' })).status).toBe(400);
    expect((await send(image)).status).toBe(200);
    await settled();
    expect(await readyOf()).toMatchObject({ reason: 'Made' });
  });

  it('refuses a file that names another one, and takes a harmless one then', async () => {
    await declare();
    const hostile = makeImage(directory, 'qcow2', ['-u', '-b', '/etc/passwd', '-F', 'raw']);
    hostile.write('/etc/\u001basswd', hostile.indexOf('/etc/passwd'), 'latin1');
    expect((await send(hostile)).status).toBe(200);
    await settled();
    const refused = await readyOf();
    expect(refused).toMatchObject({ status: 'False', reason: 'ImageRefused' });
    expect(refused.message).toContain('Send it again, or another file');
    // Whoever reads it has a terminal.
    expect(refused.message).toContain('/etc/\uFFFDasswd');
    expect([filesIn('incoming'), filesIn('layers'), filesIn('images')]).toEqual([[], [], []]);
    // It is still said, and nothing is tried.
    expect(await scene.reconcileImage('golden')).toBe('done');
    expect(await readyOf()).toEqual(refused);
    expect((await send(image)).status).toBe(200);
    await settled();
    expect(await readyOf()).toMatchObject({ reason: 'Made' });
  });

  it('is never a part of what was said, nor more, even where nobody says how long what is sent is', async () => {
    await declare({}, { format: 'raw' });
    const raw = randomBytes(2 * MiB);
    const stream = { 'transfer-encoding': 'chunked', 'content-range': `bytes 0-${raw.length - 1}/${raw.length}` };
    const short = await users.ask('PUT', where, stream, raw.subarray(0, MiB));
    expect([short.status, codeOf(short)]).toEqual([400, 'invalid-parameter']);
    expect((await users.ask('HEAD', where)).headers['upload-offset']).toBe(String(MiB));
    const long = await users.ask('PUT', where, stream, Buffer.concat([raw, Buffer.alloc(MiB)]));
    expect([long.status, codeOf(long)]).toEqual([400, 'invalid-parameter']);
    await scene.reconcileImage('golden');
    expect(await readyOf()).toMatchObject({ reason: 'WaitingForUpload' });
    expect((await users.ask('PUT', where, stream, raw)).status).toBe(200);
    await settled();
    expect((await scene.image('golden'))?.status.digest).toBe(`sha256:${sha256(raw)}`);
  });

  it('is taken once, however many found that it waits for its file', async () => {
    await declare({}, { format: 'raw' });
    const raw = randomBytes(2 * MiB);
    const wanted = { action: 'upload', resource: 'diskimages', namespace: 'media', name: 'golden' } as const;
    const signal = AbortSignal.timeout(60_000);
    const finds = [1, 2, 3].map(() =>
      new UploadSinks(scene.context, scene.clientOf(diskPools)).find({ ...wanted, headOnly: false }, signal),
    );
    const [first, second, third] = (await Promise.all(finds)).map((found) =>
      'here' in found ? found.here : undefined,
    );
    const give = (sink: typeof first) =>
      sink?.take(Readable.from([raw]), { fromBytes: 0, totalBytes: null, checksum: null, signal });
    await give(first);
    await expect(give(second)).rejects.toMatchObject({ code: 'busy' });
    await settled();
    expect(await readyOf()).toMatchObject({ reason: 'Made' });
    await expect(give(third)).rejects.toMatchObject({ code: 'name-taken' });
    expect(filesIn('incoming')).toEqual([]);
  });

  it('leaves nothing behind when it is deleted while it is sent, however slowly', async () => {
    await declare();
    const sending = users.ask('PUT', where, { 'content-length': String(image.length) }, undefined, (request) => {
      request.write(image.subarray(0, MiB));
    });
    const outcome = sending.then(
      ({ status }) => status,
      () => 'broken',
    );
    await expect
      .poll(async () => {
        await scene.reconcileImage('golden');
        return readyOf();
      })
      .toMatchObject({ reason: 'Importing', message: expect.stringContaining('Receiving the upload') });
    expect(codeOf(await send(image))).toBe('busy');
    scene.deleteImage('golden');
    await scene.reconcileImage('golden');
    expect(await scene.image('golden')).toBeUndefined();
    expect([filesIn('incoming'), filesIn('layers'), filesIn('images')]).toEqual([[], [], []]);
    expect(await outcome).not.toBe(200);
    expect(codeOf(await send(image))).toBe('image-not-found');
  });

  it('is not made of what was sent for an earlier object of its name', async () => {
    await declare();
    expect((await send(image)).status).toBe(200);
    await scene.context.imageClient.mergePatch(
      { namespace: 'media', name: 'golden' },
      { metadata: { finalizers: null } },
    );
    scene.deleteImage('golden');
    await declare();
    expect(await readyOf()).toMatchObject({ reason: 'WaitingForUpload' });
    const raw = makeImage(directory, 'raw');
    expect((await send(raw)).status).toBe(200);
    await settled();
    expect((await scene.image('golden'))?.status.digest).toBe(`sha256:${sha256(raw)}`);
  });

  it('takes nothing before its node has seen it, nor where it is no upload or on another node', async () => {
    scene.declareImage('golden', { size: undefined, source: { type: 'upload', upload: {} } });
    expect((await send(image)).status).toBe(503);
    scene.declareImage('disk');
    const ask = (name: string) => users.ask('PUT', `/diskimages/${name}/upload`, {}, image);
    expect((await ask('disk')).status).toBe(400);
    expect((await ask('none')).status).toBe(404);
    scene.declareImage('far', { nodeName: 'worker-2', source: { type: 'upload', upload: {} } });
    expect((await ask('far')).status).toBe(421);
    scene.state = { kind: 'starting' };
    expect((await send(image)).status).toBe(503);
  });
});
