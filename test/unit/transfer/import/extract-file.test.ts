import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MiB } from '../../../../src/lib/bytes.ts';
import { isLaminaError } from '../../../../src/lib/errors.ts';
import type { ImportContext, ImportRequest } from '../../../../src/transfer/import/import-request.ts';
import { extractFile } from '../../../../src/transfer/import/registry/extract-file.ts';

const space = { assertRoom: async () => {}, space: async () => ({ totalBytes: MiB }) };
const context = { space, checkpoint: () => {} } as unknown as ImportContext;
const request = {
  source: { kind: 'registry', image: 'x' },
  sizeBytes: null,
  signal: new AbortController().signal,
} as unknown as ImportRequest;

describe('a layer of a container image', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'lamina-extract-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const extractFrom = (archive: Uint8Array) => {
    const blob = path.join(directory, 'download');
    writeFileSync(blob, archive);
    return extractFile(context, request, blob, { path: null, gone: new Set() });
  };

  async function archiveOf(names: readonly string[], content: Buffer): Promise<Buffer> {
    const archive = pack();
    for (const name of names) archive.entry({ name }, content);
    archive.finalize();
    return buffer(archive as AsyncIterable<Buffer>);
  }

  it('gives the bytes of the file', async () => {
    const content = Buffer.alloc(10_000, 'content');
    const long = 'long/'.repeat(60);
    const { file } = await extractFrom(await archiveOf(['etc/hosts', `${long}x`, 'disk/a', 'var/b'], content));
    expect(readFileSync(file ?? '')).toEqual(content);
  });

  it('ends in a file or a refusal, whatever is changed in it', async () => {
    const long = `disk/${'a'.repeat(120)}`;
    const archive = await archiveOf(['etc/hosts', long], Buffer.alloc(1000, 1));
    const change = fc.record({ at: fc.nat(archive.length - 1), bytes: fc.uint8Array({ maxLength: 16 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 5 }), fc.nat(archive.length), async (changes, length) => {
        const bytes = Buffer.from(archive);
        for (const { at, bytes: written } of changes) bytes.set(written.subarray(0, bytes.length - at), at);
        for (const made of [bytes, bytes.subarray(0, length)]) {
          try {
            expect(await extractFrom(made)).toHaveProperty('hidden');
          } catch (error) {
            if (!isLaminaError(error, 'image-refused')) throw error;
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it('refuses to remember without end what is deleted', async () => {
    const deleted = Array.from({ length: 1001 }, (_, n) => `disk/.wh.${n}`);
    await expect(extractFrom(await archiveOf(deleted, Buffer.alloc(0)))).rejects.toMatchObject({
      code: 'image-refused',
      message: expect.stringContaining('deletes more than 1000 files'),
    });
    const { deleted: found } = await extractFrom(await archiveOf(deleted.slice(1), Buffer.alloc(0)));
    expect(found).toHaveLength(1000);
  });

  it('refuses headers that would take much memory', async () => {
    const header = await archiveOf([`disk/${'a'.repeat(120)}`], Buffer.alloc(0));
    // The size of the long name's header, in octal, and its checksum over again.
    header.write('77777777777', 124, 'latin1');
    header.fill(' ', 148, 156);
    const sum = header.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    await expect(extractFrom(header)).rejects.toMatchObject({
      code: 'image-refused',
      message: expect.stringContaining('Header exceeds max size'),
    });
  });
});
