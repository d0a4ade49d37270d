import { describe, expect, it } from 'vitest';
import { parseFio } from '../../bench/fio.ts';

const job = { error: 0, read: { iops: 100.5, bw_bytes: 411648, lat_ns: {} }, write: { iops: 50, bw_bytes: 204800 } };

describe('reports of fio', () => {
  it('adds up what was read and written', () => {
    expect(parseFio(JSON.stringify({ 'fio version': 'fio-3.33', jobs: [job] }))).toEqual({
      error: 0,
      iops: 150.5,
      bytesPerSecond: 616448,
    });
  });

  it('skips warnings before the report', () => {
    expect(
      parseFio(`fio: this platform does not support process shared mutexes\n${JSON.stringify({ jobs: [job] })}`).iops,
    ).toBe(150.5);
  });

  it('tells of a failed I/O', () => {
    expect(parseFio(JSON.stringify({ jobs: [{ ...job, error: 5 }] })).error).toBe(5);
  });

  it('refuses what is no report', () => {
    expect(() => parseFio('fio: pid=7, err=2/file:No such file')).toThrow('fio printed no report');
    expect(() => parseFio('{"jobs": []}')).toThrow('jobs');
  });
});
