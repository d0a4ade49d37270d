import { describe, expect, it } from 'vitest';
import { MutableObjectCache } from '../../../../src/kube/cache/object-cache.ts';
import { readObjects } from '../../../../src/roles/controller-plugin/object-reading.ts';

interface Thing {
  metadata: { name: string; resourceVersion: string; creationTimestamp: string };
  status: {
    conditions: {
      type: string;
      status: 'True' | 'False' | 'Unknown';
      reason: string;
      message: string;
      lastTransitionTime: string;
    }[];
  };
}

const now = new Date('2026-03-01T12:00:00Z');

function thing(name: string, ready?: 'True' | 'False' | 'Unknown', since = '2026-03-01T11:59:00Z'): { object: Thing } {
  const condition = { type: 'Ready', status: ready ?? 'True', reason: 'X', message: '', lastTransitionTime: since };
  const metadata = { name, resourceVersion: '1', creationTimestamp: '2026-03-01T11:00:00Z' };
  return { object: { metadata, status: { conditions: ready ? [condition] : [] } } };
}

describe('objects of a kind', () => {
  it('are counted by whether they are ready, with the time of the one that waits longest', () => {
    const cache = new MutableObjectCache<Thing>();
    cache.put(thing('a', 'True', '2025-01-01T00:00:00Z'));
    cache.put(thing('b', 'False', '2026-03-01T11:50:00Z'));
    cache.put(thing('c', 'False', '2026-03-01T11:55:00Z'));
    expect(readObjects('DiskImage', cache, now)).toEqual([
      { kind: 'DiskImage', ready: 'True', count: 1, longestMs: 0 },
      { kind: 'DiskImage', ready: 'False', count: 2, longestMs: 600_000 },
      { kind: 'DiskImage', ready: 'Unknown', count: 0, longestMs: 0 },
    ]);
  });

  it('that nobody has said anything of wait since they were made', () => {
    const cache = new MutableObjectCache<Thing>();
    cache.put(thing('a'));
    expect(readObjects('DiskImage', cache, now)[2]).toMatchObject({ ready: 'Unknown', count: 1, longestMs: 3_600_000 });
  });

  it('whose node has a clock that goes before ours do not wait for less than no time', () => {
    const cache = new MutableObjectCache<Thing>();
    cache.put(thing('a', 'False', '2026-03-01T12:00:30Z'));
    expect(readObjects('DiskImage', cache, now)[1]).toMatchObject({ count: 1, longestMs: 0 });
  });
});
