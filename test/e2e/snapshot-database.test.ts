import { expect, it } from 'vitest';
import { systemNamespace } from '../cluster/objects.ts';
import { claim, pod } from './objects.ts';
import { stories } from './stories.ts';

/** Commits one row after the other, and notes each that the database has acknowledged. */
const committing = `
sqlite3 /data/db 'PRAGMA synchronous=FULL; CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, content TEXT)' >/dev/null
id=0
while :; do
  id=$((id + 1))
  sqlite3 /data/db "PRAGMA synchronous=FULL; INSERT INTO entry VALUES ($id, 'entry $id ' || hex(zeroblob(2000)))" >/dev/null
  echo "$id" >/tmp/committed.new && mv /tmp/committed.new /tmp/committed
done`;

stories('a snapshot while a database commits', (scene) => {
  it('holds every commit that was acknowledged before it, and an unbroken database', async () => {
    const { kubectl } = scene();
    const committed = async () => Number(await kubectl.inPod('database', 'cat /tmp/committed 2>/dev/null || echo 0'));
    await kubectl.apply(claim({ name: 'database' }), pod({ name: 'database', claim: 'database', script: committing }));
    await kubectl.untilReady('database');
    await expect.poll(committed, { timeout: 60_000 }).toBeGreaterThan(20);
    for (const [index, name] of ['first', 'second'].entries()) {
      const before = await committed();
      await kubectl.snapshot(name, 'database');
      const after = await committed();
      const restored = `restored-${index}`;
      const dataSource = { kind: 'VolumeSnapshot', name } as const;
      // Layers are not moved between nodes: it can be nowhere else (docs/limitations.md).
      const node = (await kubectl.get('pod', 'database'))?.spec.nodeName;
      await kubectl.apply(claim({ name: restored, dataSource }), pod({ name: restored, claim: restored, node }));
      await kubectl.untilReady(restored);
      const ask = (statement: string) => kubectl.inPod(restored, `sqlite3 /data/db "${statement}"`);
      expect(await ask('PRAGMA integrity_check')).toBe('ok');
      const [count, highest, wrong] = (
        await ask("SELECT count(*), max(id), sum(content <> 'entry ' || id || ' ' || hex(zeroblob(2000))) FROM entry")
      ).split('|');
      expect([count, wrong]).toEqual([highest, '0']);
      expect(Number(count)).toBeGreaterThanOrEqual(before);
      // One may have been committed and not yet been noted.
      expect(Number(count)).toBeLessThanOrEqual(after + 1);
    }
    // And the database has gone on.
    const end = await committed();
    await expect.poll(committed, { timeout: 30_000 }).toBeGreaterThan(end);
    await kubectl.remove('pod', 'restored-0', 'restored-1');
    await kubectl.remove('pvc', 'restored-0', 'restored-1');
  });

  it('leaves no layer behind when it is deleted, and the database goes on meanwhile and whole', async () => {
    const { kubectl } = scene();
    const names = ['third', 'fourth', 'fifth', 'sixth'];
    for (const name of names) {
      // As much in each layer, however little the database commits meanwhile: all are worth merging.
      await kubectl.inPod('database', 'head -c 16M /dev/urandom >/data/filler; sync');
      await kubectl.snapshot(name, 'database');
    }
    await kubectl.remove('volumesnapshot', 'first', 'second', ...names);
    const disk = await kubectl.volumeOf('database');
    await kubectl
      .in(systemNamespace)
      .untilObject('diskimage', disk, ({ status }) => status?.['chainDepth'] <= 3 && status?.['attached'] === true);
    const committed = async () => Number(await kubectl.inPod('database', 'cat /tmp/committed'));
    const before = await committed();
    await expect.poll(committed, { timeout: 30_000 }).toBeGreaterThan(before);
    await kubectl.remove('pod', 'database');
    await kubectl.apply(pod({ name: 'reader', claim: 'database' }));
    await kubectl.untilReady('reader');
    expect(await kubectl.inPod('reader', 'sqlite3 /data/db "PRAGMA integrity_check"')).toBe('ok');
    expect(Number(await kubectl.inPod('reader', 'sqlite3 /data/db "SELECT count(*) FROM entry"'))).toBeGreaterThan(
      before,
    );
  });
});
