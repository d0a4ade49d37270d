import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Frame,
  FrameParser,
  frameDigest,
  maxDataBytes,
  newFrame,
  newFramePool,
} from '../../../../src/transfer/layers/layer-frames.ts';

const pool = newFramePool();

function wire(kind: Frame['kind'], offset: number, data: Buffer): Buffer {
  const frame = newFrame(pool, kind, offset, data.length);
  data.copy(frame.data);
  return Buffer.concat([frameDigest(frame), frame.body]);
}

const end = (sizeBytes: number) => wire('end', sizeBytes, Buffer.alloc(0));

/** A sparse file as parts at offsets, and the sizes of the pieces in which they come in. */
const story = fc.record({
  parts: fc.array(fc.record({ hole: fc.nat(1000), data: fc.uint8Array({ minLength: 1, maxLength: 500 }) }), {
    maxLength: 8,
  }),
  tail: fc.nat(1000),
  pieces: fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 10 }),
});

describe('frames', () => {
  it('give back a sparse file, in whatever pieces they arrive', () => {
    fc.assert(
      fc.property(story, ({ parts, tail, pieces }) => {
        const sizeBytes = parts.reduce((sum, { hole, data }) => sum + hole + data.length, tail);
        const file = Buffer.alloc(sizeBytes);
        const sent: Buffer[] = [];
        let offset = 0;
        for (const { hole, data } of parts) {
          offset += hole;
          file.set(data, offset);
          sent.push(wire('data', offset, Buffer.from(data)));
          offset += data.length;
        }
        sent.push(end(sizeBytes));
        const stream = Buffer.concat(sent);
        const parser = new FrameParser(pool, 0, sizeBytes);
        const received = Buffer.alloc(sizeBytes);
        for (let at = 0, piece = 0; at < stream.length; piece++) {
          const length = pieces[piece % pieces.length] ?? 1;
          for (const frame of parser.push(stream.subarray(at, at + length))) {
            frame.data.copy(received, frame.offset);
          }
          at += length;
        }
        expect(parser.ended).toBe(true);
        expect(received.equals(file)).toBe(true);
      }),
    );
  });

  const push = (from: number, sizeBytes: number, ...sent: Buffer[]) =>
    new FrameParser(pool, from, sizeBytes).push(Buffer.concat(sent));

  it('are refused where they leave the file or go back in it', () => {
    const ten = Buffer.alloc(10, 1);
    const beyond = wire('data', 95, ten);
    const back = [wire('data', 20, ten), wire('data', 29, ten)];
    const early = wire('data', 49, ten);
    const wrongEnd = end(101);
    const more = [end(100), Buffer.alloc(1)];
    expect(() => push(0, 100, beyond)).toThrow('10 bytes at 95');
    expect(() => push(0, 100, ...back)).toThrow('10 bytes at 29, after 30');
    expect(() => push(50, 100, early)).toThrow('after 50');
    expect(() => push(0, 100, wrongEnd)).toThrow('an end at 101');
    expect(() => push(0, 100, ...more)).toThrow('behind the end');
  });

  it('are refused where they are longer than any that we send, before there is memory for them', () => {
    const header = Buffer.alloc(48);
    header.writeUInt32BE(1, 32);
    header.writeUInt32BE(maxDataBytes + 1, 36);
    expect(() => push(0, 2 ** 40, header)).toThrow(`${maxDataBytes + 1} bytes`);
    header.writeUInt32BE(7, 32);
    header.writeUInt32BE(1, 36);
    expect(() => push(0, 2 ** 40, header)).toThrow('of kind 7');
    header.writeUInt32BE(1, 32);
    header.writeUInt32BE(0, 36);
    expect(() => push(0, 2 ** 40, header)).toThrow('0 bytes');
    header.writeUInt32BE(1, 36);
    header.fill(0xff, 40);
    expect(() => push(0, 2 ** 40, header)).toThrow('1 bytes at');
  });

  it('are refused where a bit of the data, the place or the digest is another', () => {
    const good = wire('data', 20, Buffer.alloc(10, 1));
    for (const at of [0, 31, 47, 48, 57]) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 4;
      expect(() => push(0, 100, bad)).toThrow(expect.objectContaining({ code: 'peer-invalid' }));
    }
  });
});
