import { describe, expect, it } from 'vitest';
import { LaminaError } from '../../../src/lib/errors.ts';
import { pollUntil } from '../../../src/lib/poll.ts';
import { capability } from '../../csi-client.ts';
import { failureOf, startFakeCsi } from '../../fakes/csi.ts';

const mount = [capability({ kind: 'mount' })];
const request = (name: string) => ({ name, volumeCapabilities: mount });

describe('every RPC', () => {
  it('is logged once, with its ids, code and duration', async () => {
    await using csi = await startFakeCsi();
    await csi.client.controller.createVolume(request('pvc-1'));
    await failureOf(csi.client.controller.controllerGetVolume({ volumeId: 'pvc-2' }));
    expect(csi.logger.entries.filter(({ fields }) => 'rpc' in fields)).toEqual([
      {
        level: 'info',
        message: 'call',
        fields: { rpc: 'CreateVolume', code: 'OK', durationMs: expect.any(Number), name: 'pvc-1' },
      },
      {
        level: 'info',
        message: 'call failed',
        fields: {
          rpc: 'ControllerGetVolume',
          code: 'NOT_FOUND',
          durationMs: expect.any(Number),
          volumeId: 'pvc-2',
          reason: 'there is no disk pvc-2',
        },
      },
    ]);
  });

  it('is counted once', async () => {
    await using csi = await startFakeCsi();
    await csi.client.controller.createVolume(request('pvc-1'));
    await csi.client.identity.probe();
    await failureOf(csi.client.controller.deleteVolume());
    expect(csi.calls.map(({ rpc, code }) => `${rpc} ${code}`)).toEqual([
      'CreateVolume OK',
      'Probe OK',
      'DeleteVolume INVALID_ARGUMENT',
    ]);
  });

  it('keeps secrets and mount flags out of the log, whatever happens', async () => {
    await using csi = await startFakeCsi();
    const secrets = { password: 'tops3cret' };
    const secretive = [capability({ kind: 'mount', mountFlags: ['password=tops3cret'] })];
    const parameters = { nonsense: '1' };
    await csi.client.controller.createVolume({ name: 'pvc-1', volumeCapabilities: secretive, secrets });
    await failureOf(
      csi.client.controller.createVolume({ name: 'pvc-2', volumeCapabilities: secretive, secrets, parameters }),
    );
    csi.disks.onOperation = async () => {
      throw new TypeError('unforeseen');
    };
    await failureOf(csi.client.controller.createVolume({ name: 'pvc-3', volumeCapabilities: secretive, secrets }));
    expect(csi.calls).toHaveLength(3);
    expect(JSON.stringify(csi.logger.entries)).not.toContain('tops3cret');
  });

  it('answers an exception that nobody expected with INTERNAL, and logs it with its stack', async () => {
    await using csi = await startFakeCsi();
    csi.disks.onOperation = async () => {
      throw new TypeError('x is not a function');
    };
    expect(await failureOf(csi.client.controller.deleteVolume({ volumeId: 'pvc-1' }))).toBe(
      'INTERNAL: [unexpected] x is not a function',
    );
    const [entry] = csi.logger.entries.filter(({ level }) => level === 'error');
    expect(entry?.fields).toMatchObject({ error: { stack: expect.stringContaining('rpc.test.ts') } });
  });

  it('carries a long message in many languages to the client', async () => {
    await using csi = await startFakeCsi();
    csi.disks.onOperation = async () => {
      throw new LaminaError('tool-failed', `Gerät nicht gefunden\n${'größer '.repeat(2000)}`);
    };
    expect(await failureOf(csi.client.controller.deleteVolume({ volumeId: 'pvc-1' }))).toMatch(
      /^INTERNAL: \[tool-failed\] Gerät nicht gefunden\ngrößer /,
    );
  });

  it('that this plugin does not have is UNIMPLEMENTED', async () => {
    await using csi = await startFakeCsi();
    expect(await failureOf(csi.client.controller.controllerPublishVolume({ volumeId: 'pvc-1' }))).toMatch(
      /^UNIMPLEMENTED/,
    );
  });
});

describe('a call whose client gave up', () => {
  it('goes on; a retry meanwhile is ABORTED, and one afterwards finds the result', async () => {
    await using csi = await startFakeCsi();
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    csi.disks.onOperation = () => gate;
    const { controller } = csi.client;

    // It has reached the server by then, on a busy machine, too.
    expect(await failureOf(controller.createVolume(request('pvc-1'), { timeoutMs: 2000 }))).toMatch(
      /^DEADLINE_EXCEEDED/,
    );
    expect(await failureOf(controller.createVolume(request('pvc-1')))).toMatch(/^ABORTED: \[busy\] .*pvc-1/);
    expect(csi.disks.disks.size).toBe(0);
    open();
    expect(await pollUntil(() => csi.calls.length === 2, { timeoutMs: 5000, intervalMs: 5 })).toBe(true);
    expect((await controller.createVolume(request('pvc-1'))).volume?.volumeId).toBe('pvc-1');

    expect(csi.disks.disks.size).toBe(1);
    expect(csi.calls.map(({ code }) => code)).toEqual(['ABORTED', 'OK', 'OK']);
    expect(csi.logger.entries.filter(({ fields }) => fields['clientGone'] === true)).toHaveLength(1);
  });
});

describe('calls at the same time', () => {
  it('200 creates of different names all succeed', async () => {
    await using csi = await startFakeCsi();
    const names = Array.from({ length: 200 }, (_, index) => `pvc-${index}`);
    const created = await Promise.all(names.map((name) => csi.client.controller.createVolume(request(name))));
    expect(new Set(created.map(({ volume }) => volume?.volumeId))).toEqual(new Set(names));
    expect(csi.disks.disks.size).toBe(200);
  });

  it('ten creates of one name make one volume; the others get it, or ABORTED', async () => {
    await using csi = await startFakeCsi();
    csi.disks.onOperation = () => new Promise((resolve) => setImmediate(resolve));
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, () => csi.client.controller.createVolume(request('pvc-1'))),
    );
    expect(csi.disks.disks.size).toBe(1);
    const codes = csi.calls.map(({ code }) => code);
    expect(codes).toHaveLength(10);
    expect(codes.every((code) => code === 'OK' || code === 'ABORTED')).toBe(true);
    expect(results.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThanOrEqual(1);
  });

  it('a second change of a volume is ABORTED while the first runs; reading it is not', async () => {
    await using csi = await startFakeCsi();
    const { controller, node } = csi.client;
    await controller.createVolume(request('pvc-1'));
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    csi.disks.onOperation = async (operation) => {
      if (operation !== 'growDisk') return;
      begin();
      await gate;
    };
    const capacityRange = { requiredBytes: 2n ** 31n, limitBytes: 0n };
    const growing = controller.controllerExpandVolume({ volumeId: 'pvc-1', capacityRange });
    await begun;

    expect(await failureOf(controller.deleteVolume({ volumeId: 'pvc-1' }))).toMatch(/^ABORTED/);
    expect(await failureOf(controller.createVolume(request('pvc-1')))).toMatch(/^ABORTED/);
    const volumeCapability = capability({ kind: 'mount' });
    const staging = { volumeId: 'pvc-1', stagingTargetPath: '/staging', volumeCapability };
    expect(await failureOf(node.nodeStageVolume(staging))).toMatch(/^ABORTED/);
    await controller.controllerGetVolume({ volumeId: 'pvc-1' });
    await controller.listVolumes();
    await controller.validateVolumeCapabilities({ volumeId: 'pvc-1', volumeCapabilities: mount });
    await controller.createVolume(request('pvc-2'));

    open();
    expect((await growing).capacityBytes).toBe(2n ** 31n);
    await controller.deleteVolume({ volumeId: 'pvc-1' });
  });

  it('a second change of a snapshot is ABORTED while the first runs', async () => {
    await using csi = await startFakeCsi();
    const { controller } = csi.client;
    await controller.createVolume(request('pvc-1'));
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    csi.disks.onOperation = async () => {
      begin();
      await gate;
    };
    const taking = controller.createSnapshot({ name: 'snap-1', sourceVolumeId: 'pvc-1' });
    await begun;
    expect(await failureOf(controller.createSnapshot({ name: 'snap-1', sourceVolumeId: 'pvc-1' }))).toMatch(/^ABORTED/);
    expect(await failureOf(controller.deleteSnapshot({ snapshotId: 'snap-1' }))).toMatch(/^ABORTED/);
    open();
    await taking;
    await controller.deleteSnapshot({ snapshotId: 'snap-1' });
  });
});
