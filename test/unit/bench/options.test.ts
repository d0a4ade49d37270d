import { describe, expect, it } from 'vitest';
import { GiB } from '../../../src/lib/bytes.ts';
import { readOptions } from '../../bench/options.ts';

describe('settings of a benchmark', () => {
  it('without any, all parts are measured in full', () => {
    expect(readOptions([], {})).toMatchObject({
      parts: ['fio', 'chain', 'latency', 'snapshot', 'memory', 'transfer', 'import', 'operator', 'kind'],
      quick: false,
      native: false,
      image: null,
      directory: '/var/tmp',
    });
  });

  it('an empty variable, as make passes it, is one that is not set', () => {
    expect(readOptions(['ONLY='], { BENCH_IMAGE: '', BENCH_QUICK: '' })).toEqual(readOptions([], {}));
  });

  it('ONLY chooses parts, by comma', () => {
    expect(readOptions(['ONLY=memory,fio'], {}).parts).toEqual(['memory', 'fio']);
  });

  it('BENCH_DATA sets the data, quick or not', () => {
    expect(readOptions(['BENCH_DATA=2Gi'], { BENCH_QUICK: '1' })).toMatchObject({
      quick: true,
      effort: { dataBytes: 2 * GiB },
    });
  });

  it('names a part, a setting and a size that it does not know', () => {
    expect(() => readOptions(['ONLY=disks'], {})).toThrow('ONLY');
    expect(() => readOptions(['ONYL=fio'], {})).toThrow('unknown: ONYL');
    expect(() => readOptions([], { BENCH_DATA: 'much' })).toThrow('a size such as 10Gi is wanted');
  });
});
