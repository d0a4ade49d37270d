import { rm, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { formatBytes, GiB, MiB } from '../../src/lib/bytes.ts';
import { type CreatedSnapshot, type CreatedVolume, pathsBelow } from '../csi-client.ts';
import { chooseFiles, copyFiles, type FileSet, sumFiles, syncFilesystem } from './machine-files.ts';
import { deviceAt, growableFilesystem, type Stage } from './stage.ts';
import { formatDuration, type Teller } from './teller.ts';
import { countRecords, whileWriting } from './writer.ts';

const sourceRoot = '/usr';
const dataBytes = 300 * MiB;
const sizeBytes = 4 * GiB;
const rawBytes = 512 * MiB;
const writerFile = 'journal';

/** A mounted volume and what must be in it. */
interface Mounted {
  volume: CreatedVolume;
  target: string;
  files: FileSet;
}

/**
 * The story of a volume: used, snapshotted while it is written to, damaged, restored, cloned, grown, left alone by its
 * driver and taken back. Everything is compared on the way.
 *
 * @throws where a byte differs or a step fails
 */
export async function tellStory(stage: Stage, teller: Teller): Promise<void> {
  await teller.step('Start the driver on an empty directory', async () => {
    await stage.start();
    return ['a CSI socket is all there is to it: no volume group, no spare disk, no cluster'];
  });
  const web = await fillVolume(stage, teller);
  const { snapshot, leastRecords } = await snapshotWhileWriting(stage, teller, web);
  const changed = await damage(stage, teller, web);
  await restore(stage, teller, { snapshot, web, leastRecords });
  const clone = await cloneLive(stage, teller, changed);
  await grow(stage, teller, changed);
  await useRaw(stage, teller, web.files);
  await killDriver(stage, teller, changed);
  await teller.step('Look at the pool: lamina tree', () => stage.tree());
  await finalComparison(stage, teller, [changed, clone]);
  await deleteEverything(stage, teller, snapshot);
}

async function fillVolume(stage: Stage, teller: Teller): Promise<Mounted> {
  let volume!: CreatedVolume;
  let target!: string;
  let files!: FileSet;
  const fsType = await growableFilesystem();
  await teller.step(`Create volume "web", ${formatBytes(sizeBytes)}, thin`, async () => {
    volume = await stage.create({ name: 'web', sizeBytes, access: { kind: 'mount', fsType } });
    return [`takes ${formatBytes(await stage.allocatedBytes(volume))} until something is written`];
  });
  await teller.step(`Mount it (${fsType})`, async () => {
    target = await stage.mount(volume);
    return [`${await deviceAt(target)}, a QCOW2 image behind it`];
  });
  await teller.step(`Copy files of this machine into it, from ${sourceRoot}`, async () => {
    const { names, totalBytes } = await chooseFiles(sourceRoot, dataBytes);
    await copyFiles(sourceRoot, names, target);
    files = await sumFiles(sourceRoot, names, stage.sumsFile('original'));
    await stage.compare(target, files);
    return [
      `${names.length} files, ${formatBytes(totalBytes)}; all SHA-256 sums are right`,
      `the image now takes ${formatBytes(await stage.allocatedBytes(volume))}`,
    ];
  });
  return { volume, target, files };
}

async function snapshotWhileWriting(stage: Stage, teller: Teller, { volume, target }: Mounted) {
  let snapshot!: CreatedSnapshot;
  let leastRecords = 0;
  await teller.step('Take snapshot "before" while a program writes to it', async () => {
    return whileWriting(path.join(target, writerFile), async (writer) => {
      await writer.goesOn(50);
      writer.resetPause();
      leastRecords = writer.acknowledged;
      const start = performance.now();
      snapshot = await stage.csi.createSnapshot(volume.id, 'before');
      const tookMs = performance.now() - start;
      await writer.goesOn(50);
      return [
        `snapshot in ${formatDuration(tookMs)}; ${leastRecords} fsyncs before it, ${writer.acknowledged - leastRecords} since`,
        `no write failed, the longest waited ${formatDuration(writer.longestPauseMs)}`,
      ];
    });
  });
  return { snapshot, leastRecords };
}

/** Deletes every third file and writes over every other third. */
async function damage(stage: Stage, teller: Teller, web: Mounted): Promise<Mounted> {
  let files!: FileSet;
  await teller.step('An accident: files deleted, files overwritten', async () => {
    const at = (remainder: number) => web.files.names.filter((_, index) => index % 3 === remainder);
    const inVolume = (name: string) => path.join(web.target, name);
    await Promise.all(at(0).map((name) => rm(inVolume(name))));
    for (const name of at(1)) await writeFile(inVolume(name), `overwritten: ${name}\n`);
    await syncFilesystem(web.target);
    files = await sumFiles(web.target, [...at(1), ...at(2)], stage.sumsFile('changed'));
    return [`${at(0).length} files are gone, ${at(1).length} have other content`];
  });
  return { ...web, files };
}

async function restore(
  stage: Stage,
  teller: Teller,
  { snapshot, web, leastRecords }: { snapshot: CreatedSnapshot; web: Mounted; leastRecords: number },
): Promise<void> {
  const { files } = web;
  const { access } = web.volume;
  let volume!: CreatedVolume;
  await teller.step('Restore the snapshot as volume "restored"', async () => {
    volume = await stage.create({ name: 'restored', sizeBytes, source: { snapshotId: snapshot.id }, access });
    return [`no copy: it takes ${formatBytes(await stage.allocatedBytes(volume))} and shares the rest`];
  });
  await teller.step('Mount it and compare every file', async () => {
    const target = await stage.mount(volume);
    await stage.compare(target, files);
    const records = await countRecords(path.join(target, writerFile), leastRecords);
    await stage.unmount(volume);
    return [`all ${files.names.length} files are as they were, and all ${records} records written until then`];
  });
}

async function cloneLive(stage: Stage, teller: Teller, source: Mounted): Promise<Mounted> {
  let volume!: CreatedVolume;
  let target!: string;
  await teller.step('Clone "web" as it is now, while it is mounted', async () => {
    volume = await stage.create({
      name: 'clone',
      sizeBytes,
      source: { volumeId: source.volume.id },
      access: source.volume.access,
    });
    return [];
  });
  await teller.step('Mount the clone, compare, write to it', async () => {
    target = await stage.mount(volume);
    await stage.compare(target, source.files);
    await writeFile(path.join(target, 'only-in-the-clone'), 'x'.repeat(MiB));
    await syncFilesystem(target);
    await stage.compare(source.target, source.files);
    return [
      `${source.files.names.length} files are the same in both; the clone took ${formatBytes(await stage.allocatedBytes(volume))} so far`,
    ];
  });
  return { volume, target, files: source.files };
}

async function grow(stage: Stage, teller: Teller, { volume, target }: Mounted): Promise<void> {
  await teller.step(`Grow "web" to ${formatBytes(2 * sizeBytes)} while it is mounted`, async () => {
    const before = await filesystemBytes(target);
    await whileWriting(path.join(target, 'while-growing'), async (writer) => {
      await stage.csi.expand(volume, 2 * sizeBytes, pathsBelow(stage.workspace.mounts, volume.id));
      await writer.goesOn(10);
    });
    const after = await filesystemBytes(target);
    if (after < 1.9 * before) throw new Error(`the file system has ${after} bytes after growing, ${before} before`);
    return [`df: ${formatBytes(before)} before, ${formatBytes(after)} after; a program wrote on meanwhile`];
  });
}

async function useRaw(stage: Stage, teller: Teller, files: FileSet): Promise<void> {
  let volume!: CreatedVolume;
  const parameters = { format: 'raw', preallocation: 'falloc' };
  const assertAllocated = async (): Promise<void> => {
    const allocated = await stage.allocatedBytes(volume);
    if (allocated < rawBytes) throw new Error(`only ${allocated} of ${rawBytes} bytes are allocated`);
  };
  await teller.step(`Create volume "raw", ${formatBytes(rawBytes)}, preallocated`, async () => {
    volume = await stage.create({ name: 'raw', sizeBytes: rawBytes, parameters });
    await assertAllocated();
    return [`its file has all of its ${formatBytes(await stage.allocatedBytes(volume))} from the start`];
  });
  await teller.step('Mount it, copy the files into it, compare', async () => {
    const target = await stage.mount(volume);
    const device = await deviceAt(target);
    await copyFiles(sourceRoot, files.names, target);
    await stage.unmount(volume);
    await stage.compare(await stage.mount(volume), files);
    await stage.unmount(volume);
    await assertAllocated();
    return [`${device} is the file itself, no process between; mkfs left it allocated`];
  });
}

async function killDriver(stage: Stage, teller: Teller, { volume, target, files }: Mounted): Promise<void> {
  const file = path.join(target, 'while-killed');
  const acknowledged = await whileWriting(file, async (writer) => {
    await writer.goesOn(50);
    await teller.step('kill -9 the driver while the volume is written to', async () => {
      await stage.kill9();
      const before = writer.acknowledged;
      await writer.goesOn(200);
      return [`the program went on: ${writer.acknowledged - before} further fsyncs without a driver`];
    });
    await teller.step('Start the driver again, snapshot the running volume', async () => {
      await stage.start();
      const snapshot = await stage.csi.createSnapshot(volume.id, 'after-the-kill');
      await stage.csi.deleteSnapshot(snapshot.id);
      return ['it found the running volume and is in control of it'];
    });
    return writer.acknowledged;
  });
  await teller.step('Unmount, mount again, compare', async () => {
    await stage.unmount(volume);
    await stage.mount(volume);
    await stage.compare(target, files);
    const records = await countRecords(file, acknowledged);
    return [`${files.names.length} files and all ${records} records are there`];
  });
}

async function finalComparison(stage: Stage, teller: Teller, mounted: readonly Mounted[]): Promise<void> {
  await teller.step('Compare what is mounted once more, read from disk', async () => {
    for (const { volume, files } of mounted) {
      await stage.unmount(volume);
      await stage.compare(await stage.mount(volume), files);
    }
    return [];
  });
}

async function deleteEverything(stage: Stage, teller: Teller, snapshot: CreatedSnapshot): Promise<void> {
  await teller.step('Delete everything, the volume before its snapshot', async () => {
    for (const volume of stage.volumes) await stage.unmount(volume);
    for (const volume of stage.volumes) await stage.csi.deleteVolume(volume.id);
    await stage.csi.deleteSnapshot(snapshot.id);
    await stage.stop();
    await stage.check();
    return [(await stage.tree()).map((line) => line.trim()).join(': '), 'lamina check finds nothing wrong'];
  });
}

async function filesystemBytes(target: string): Promise<number> {
  const { blocks, bsize } = await statfs(target);
  return blocks * bsize;
}
