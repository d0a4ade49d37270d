import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { type ServiceError, status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import { run } from '../../src/lib/exec.ts';
import { pollUntil } from '../../src/lib/poll.ts';
import { type Standalone, startStandalone } from '../standalone.ts';
import { leftovers, makeWorkspace, removeWorkspace, type Workspace } from '../workspace.ts';

const lamina = path.resolve(import.meta.dirname, '../../bin/lamina');

let workspace: Workspace;
let before: string[];
let standalone: Standalone;

beforeAll(async () => {
  workspace = await makeWorkspace({ base: '/tmp', prefix: 'lamina-calls-', neededBytes: 4 * GiB });
  before = await leftovers(workspace.directory);
  standalone = await startStandalone(workspace);
});

afterAll(async () => {
  try {
    await standalone.stop();
    // The supervisor ends by itself when there is nothing left to supervise.
    const isAsBefore = async () => (await leftovers(workspace.directory)).length === before.length;
    await pollUntil(isAsBefore, { timeoutMs: 30_000, intervalMs: 100 });
    expect(await leftovers(workspace.directory)).toEqual(before);
  } finally {
    await removeWorkspace(workspace.directory);
  }
});

const create = (name: string, timeoutMs?: number) => {
  const { controller } = standalone.client;
  const accessType = { $case: 'mount' as const, value: { fsType: '', mountFlags: [], volumeMountGroup: '' } };
  const request = {
    name,
    capacityRange: { requiredBytes: BigInt(MiB), limitBytes: 0n },
    volumeCapabilities: [{ accessType, accessMode: { mode: 1 as const } }],
  };
  return controller.createVolume(request, timeoutMs === undefined ? {} : { timeoutMs });
};

const remove = (volumeId: string) => standalone.client.controller.deleteVolume({ volumeId });

async function volumeIds(): Promise<string[]> {
  const { entries } = await standalone.client.controller.listVolumes();
  return entries.map(({ volume }) => volume?.volumeId ?? '');
}

/** `OK` or the gRPC code of each. */
async function codesOf(calls: readonly Promise<unknown>[]): Promise<string[]> {
  const results = await Promise.allSettled(calls);
  return results.map((result) => {
    if (result.status === 'fulfilled') return 'OK';
    return status[(result.reason as ServiceError).code];
  });
}

/** Deletes all, and looks whether anything of it is left or damaged. */
async function expectNothingLeft(): Promise<void> {
  for (const id of await volumeIds()) await remove(id);
  for (const directory of ['disks', 'layers', 'tmp']) {
    await expect.poll(() => readdir(path.join(workspace.pool, directory)), { timeout: 20_000 }).toEqual([]);
  }
  await run(lamina, ['check', workspace.pool], { timeoutMs: 60_000 });
}

describe('lamina standalone under many calls', () => {
  it('makes and deletes 200 volumes at once, and none gets lost', async () => {
    const names = Array.from({ length: 200 }, (_, index) => `pvc-${String(index).padStart(3, '0')}`);
    expect(new Set(await codesOf(names.map((name) => create(name))))).toEqual(new Set(['OK']));
    expect(await volumeIds()).toEqual(names);
    expect(new Set(await codesOf(names.map((name) => remove(name))))).toEqual(new Set(['OK']));
    expect(await volumeIds()).toEqual([]);
    await expectNothingLeft();
  });

  it('makes one volume for ten callers of one name, who get it or ABORTED', async () => {
    const codes = await codesOf(Array.from({ length: 10 }, () => create('pvc-same')));
    expect(codes).toContain('OK');
    expect(codes.filter((code) => code !== 'OK' && code !== 'ABORTED')).toEqual([]);
    expect(await volumeIds()).toEqual(['pvc-same']);
    expect(await readdir(path.join(workspace.pool, 'layers'))).toHaveLength(1);
    await expectNothingLeft();
  });

  it('answers ABORTED to a delete while the volume is being made, or deletes it; it is whole or gone', async () => {
    for (let round = 0; round < 20; round++) {
      const codes = await codesOf([create('pvc-race'), remove('pvc-race'), create('pvc-race'), remove('pvc-race')]);
      expect(codes.filter((code) => code !== 'OK' && code !== 'ABORTED')).toEqual([]);
      await run(lamina, ['check', workspace.pool], { timeoutMs: 60_000 });
    }
    await expectNothingLeft();
  });

  it('finishes what a caller gave up on; asking again finds it', async () => {
    expect(await codesOf([create('pvc-late', 1)])).toEqual(['DEADLINE_EXCEEDED']);
    await expect.poll(() => codesOf([create('pvc-late')]), { timeout: 20_000 }).toEqual(['OK']);
    expect(await volumeIds()).toEqual(['pvc-late']);
    expect(await readdir(path.join(workspace.pool, 'layers'))).toHaveLength(1);
    await expectNothingLeft();
  });
});
