import { appendFileSync, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { MiB } from '../src/lib/bytes.ts';
import { chainIds } from '../src/store/graph.ts';
import { diskIdOf, imageIdOf } from '../src/store/ids.ts';
import { createImage, recordImage } from '../src/store/images.ts';
import { inspectPool } from '../src/store/inspect.ts';
import { PoolLayout } from '../src/store/layout.ts';
import { installLayer } from '../src/store/layers.ts';
import type { DiskSource, LayerId, LayerRecord } from '../src/store/records.ts';
import { anySize, type DetachedPool, expectPattern, openDetachedPool, thin, writePattern } from './detached-pool.ts';

type Call = (opened: DetachedPool) => Promise<unknown>;

/** The pool another node has: a snapshot `s` of two layers, the lower one 1, the upper one 2 in its second half. */
export async function makeDonor(directory: string): Promise<void> {
  const donor = await openDetachedPool(directory);
  await donor.disks.create({ name: 'd', size: { requiredBytes: 2 * MiB, limitBytes: 0 }, options: thin, source: null });
  writePattern(donor, 'd', 1, 0, 2 * MiB);
  await donor.disks.createSnapshot({ name: 'lower', diskId: 'd' });
  writePattern(donor, 'd', 2, MiB, MiB);
  await donor.disks.createSnapshot({ name: 's', diskId: 'd' });
  await donor.release();
}

/** Puts the layers of the donor's snapshot `s` into this pool, under their own ids, and names them as an image. */
export async function receive({ pool }: DetachedPool, donorDirectory: string, name: string): Promise<void> {
  const layout = new PoolLayout(donorDirectory);
  const { contents } = await inspectPool(layout);
  const top = [...contents.snapshots.values()].find((snapshot) => snapshot.name === 's')?.layer as LayerId;
  const chain = chainIds(contents.layers, top).toReversed();
  const facts = { id: imageIdOf(name), name, filesystem: null, digest: null };
  await pool.withPins(chain, async () => {
    for (const id of chain) {
      const { parent, format, virtualSizeBytes, createdAt } = contents.layers.get(id) as LayerRecord;
      const copy = async (file: string) => copyFileSync(layout.layerData(id, format), file);
      await installLayer(pool, { id, parent, format, virtualSizeBytes, createdAt }, copy);
    }
    await recordImage(pool, facts, top);
  });
}

const diskFrom = (name: string, source: DiskSource | null) => (opened: DetachedPool) =>
  opened.disks.create({ name, size: anySize, options: thin, source });

const readsAs = (opened: DetachedPool, disk: string, ...megabytes: number[]) => {
  const { head } = opened.pool.disk(diskIdOf(disk));
  megabytes.forEach((byte, index) => expectPattern(opened, head, byte, index * MiB, MiB));
};

/** Every way to an image, disks from them, and deletion in an order that nobody would choose. */
const calls = (donorDirectory: string): Call[] => [
  diskFrom('a', null),
  async (opened) => writePattern(opened, 'a', 7, 0, MiB),
  (opened) => opened.images.create({ name: 'of-disk', source: { kind: 'disk', id: 'a' } }),
  async (opened) => writePattern(opened, 'a', 8, 0, MiB),
  (opened) => opened.disks.createSnapshot({ name: 's', diskId: 'a' }),
  (opened) => opened.images.create({ name: 'of-snapshot', source: { kind: 'snapshot', id: 's' } }),
  ({ pool }) =>
    pool.images.has(imageIdOf('built'))
      ? Promise.resolve()
      : createImage(
          pool,
          { id: imageIdOf('built'), name: 'built', filesystem: null, digest: null },
          {
            format: 'raw',
            parent: null,
            sizeBytes: MiB,
            sealed: true,
            build: async (file) => writeFileSync(file, Buffer.alloc(MiB, 9)),
          },
        ),
  (opened) => receive(opened, donorDirectory, 'received'),
  (opened) => opened.disks.deleteSnapshot('s'),
  (opened) => opened.disks.delete('a'),
  diskFrom('of-disk', { kind: 'image', id: 'of-disk' }),
  diskFrom('of-snapshot', { kind: 'image', id: 'of-snapshot' }),
  diskFrom('of-built', { kind: 'image', id: 'built' }),
  diskFrom('of-received', { kind: 'image', id: 'received' }),
  ...['of-disk', 'of-snapshot', 'built', 'received'].map(
    (id): Call =>
      (opened) =>
        opened.images.delete(id),
  ),
  async (opened) => {
    readsAs(opened, 'of-disk', 7);
    readsAs(opened, 'of-snapshot', 8);
    readsAs(opened, 'of-built', 9);
    readsAs(opened, 'of-received', 1, 2);
  },
  ...['of-disk', 'of-snapshot', 'of-built', 'of-received'].map(
    (id): Call =>
      (opened) =>
        opened.disks.delete(id),
  ),
];

/** Lives through the story from the first call that is not known to be done; a call that broke off is repeated. */
export async function imageStory(opened: DetachedPool, directory: string): Promise<void> {
  const ledger = path.join(directory, 'done');
  const done = existsSync(ledger) ? readFileSync(ledger, 'utf8').length : 0;
  for (const call of calls(path.join(directory, 'donor')).slice(done)) {
    await call(opened);
    appendFileSync(ledger, '.');
  }
}
