import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isLaminaError } from '../../../src/lib/errors.ts';
import { isUnwrittenQcow2, parseQcow2Header, readQcow2Header } from '../../../src/qemu/qcow2-header.ts';

const qemuImg = (...args: string[]) => execFileSync('qemu-img', args);

describe('the QCOW2 header', () => {
  let directory: string;
  let overlay: string;

  beforeAll(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'lamina-header-'));
    overlay = path.join(directory, 'overlay.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-u', '-b', '../base/data.raw', '-F', 'raw', overlay, '64M');
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  it('tells sizes, backing file and its format as qemu-img wrote them', async () => {
    expect(await readQcow2Header(overlay)).toMatchObject({
      version: 3,
      virtualSizeBytes: 64 * 1024 * 1024,
      clusterSizeBytes: 65536,
      backingFile: '../base/data.raw',
      backingFormat: 'raw',
      hasDataFile: false,
      encrypted: false,
      corrupt: false,
    });
  });

  it('tells an external data file', async () => {
    const file = path.join(directory, 'external.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${file}.data,data_file_raw=on`, file, '1M');
    expect((await readQcow2Header(file)).hasDataFile).toBe(true);
  });

  it('tells encryption', async () => {
    const file = path.join(directory, 'encrypted.qcow2');
    const secret = ['--object', 'secret,id=s,data=abc'];
    // Else the key is derived for seconds of processor time.
    const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
    qemuImg('create', '-q', ...secret, '-f', 'qcow2', '-o', options, file, '1M');
    expect((await readQcow2Header(file)).encrypted).toBe(true);
  });

  it('refuses what is no QCOW2 image, naming the file', () => {
    expect(() => parseQcow2Header(Buffer.alloc(4096), '/pool/x')).toThrow(/\/pool\/x is no QCOW2 image/);
  });

  it('refuses unknown incompatible features and absurd clusters', () => {
    const features = Buffer.from(readFileSync(overlay));
    features.writeBigUInt64BE(1n << 40n, 72);
    expect(() => parseQcow2Header(features, 'x')).toThrow(/unknown incompatible features/);
    const clusters = Buffer.from(readFileSync(overlay));
    clusters.writeUInt32BE(40, 20);
    expect(() => parseQcow2Header(clusters, 'x')).toThrow(/clusters of 2\^40/);
  });

  it('either parses or refuses any damaged header, and never does anything else', () => {
    const good = readFileSync(overlay).subarray(0, 1024);
    const damage = fc.array(fc.record({ at: fc.nat(159), byte: fc.nat(255) }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(damage, fc.integer({ min: 0, max: 1024 }), (changes, length) => {
        const bytes = Buffer.from(good);
        for (const { at, byte } of changes) bytes[at] = byte;
        try {
          const header = parseQcow2Header(bytes.subarray(0, length), 'x');
          expect(header.clusterSizeBytes).toBeLessThanOrEqual(2 ** 21);
        } catch (error) {
          expect(isLaminaError(error, 'image-header-invalid')).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('tells whether an image was ever written to', async () => {
    const file = path.join(directory, 'written.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', file, '1T');
    expect(await isUnwrittenQcow2(file)).toBe(true);
    execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 1 900G 4k', file]);
    expect(await isUnwrittenQcow2(file)).toBe(false);
  });
});
