import { describe, expect, it } from 'vitest';
import { GiB, TiB } from '../../../../src/lib/bytes.ts';
import { type ChainDescription, parseChainDescription } from '../../../../src/transfer/layers/chain-description.ts';
import type { LayerId } from '../../../../src/store/records.ts';

const id = (n: number) => `l${String(n).padStart(24, '0')}` as LayerId;

function description(): ChainDescription {
  const createdAt = new Date(0).toISOString();
  const common = { virtualSizeBytes: GiB, allocatedBytes: 4096, etag: 'ab12', createdAt };
  return {
    version: 1,
    kind: 'snapshot',
    id: 's',
    name: 's',
    sizeBytes: GiB,
    filesystem: { type: 'ext4', state: 'formatted' },
    digest: null,
    layers: [
      { ...common, id: id(2), parent: id(1), format: 'qcow2', fileSizeBytes: 200_000 },
      { ...common, id: id(1), parent: null, format: 'raw', fileSizeBytes: GiB },
    ],
  };
}

type Layer = ChainDescription['layers'][number];
const withLayer = (index: number, change: Partial<Record<keyof Layer, unknown>>) => {
  const { layers, ...rest } = description();
  return { ...rest, layers: layers.map((layer, each) => (each === index ? { ...layer, ...change } : layer)) };
};

describe('the description of a chain', () => {
  it('is taken as it is where it can be', () => {
    expect(parseChainDescription(description())).toEqual(description());
  });

  it.each([
    ['is of another version', { ...description(), version: 2 }],
    ['has no layers', { ...description(), layers: [] }],
    ['has what we do not know', { ...description(), command: 'x' }],
    [
      'has layers without end',
      { ...description(), layers: Array.from({ length: 2000 }, () => description().layers[1]) },
    ],
    ['names a layer like a path', withLayer(0, { id: '../../etc' })],
    ['names a layer as no pool does', withLayer(0, { id: 'l1' })],
    ['names a parent like a path', withLayer(0, { parent: '/etc/shadow' })],
    ['has a parent that does not follow', withLayer(0, { parent: id(7) })],
    ['has a layer below the lowest', withLayer(1, { parent: id(7) })],
    ['has no parent where one follows', withLayer(0, { parent: null })],
    ['has a raw layer on another', withLayer(0, { format: 'raw', fileSizeBytes: GiB })],
    ['has a raw layer of another size than its file', withLayer(1, { fileSizeBytes: GiB + 4096 })],
    ['has a format that we do not know', withLayer(0, { format: 'vmdk' })],
    ['has a layer of no size', withLayer(0, { virtualSizeBytes: 0 })],
    ['has a layer bigger than any', withLayer(0, { virtualSizeBytes: 17 * TiB })],
    ['has a file far bigger than its layer', withLayer(0, { fileSizeBytes: 4 * GiB })],
    ['has an etag that is none', withLayer(0, { etag: '"\r\nX: y' })],
    ['is nothing', null],
  ])('is refused where it %s', (_, json) => {
    expect(() => parseChainDescription(json)).toThrow(expect.objectContaining({ code: 'peer-invalid' }));
  });

  it('is refused where a layer comes twice', () => {
    const { layers, ...rest } = description();
    const [upper] = layers as [Layer];
    const cycle = { ...rest, layers: [upper, { ...upper, id: id(1), parent: id(2) }, upper] };
    expect(() => parseChainDescription(cycle)).toThrow('twice');
  });
});
