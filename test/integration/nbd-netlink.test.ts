import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NbdBackend } from '../../src/engine/attach/nbd-backend.ts';
import { daemonIdOf, runDirectory } from '../../src/engine/supervisor/run-directory.ts';
import { connectNbdDevice, findNbdDevice, hasKernelNbd } from '../../src/host/nbd.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { imageBlockdev } from '../../src/qemu/blockdev.ts';
import { graphArgs } from '../../src/qemu/storage-daemon.ts';
import { EngineBench } from '../engine-bench.ts';

const withoutNbd = !(await hasKernelNbd());

let bench: EngineBench;
beforeEach(() => {
  bench = new EngineBench();
});
afterEach(() => bench.close());

// What a kernel with NBD does with it is tested in an emulated machine.
describe.runIf(withoutNbd)('on a kernel without network block devices', () => {
  it('negotiates with the storage daemon, and says that the kernel has no such driver', async () => {
    const client = await bench.ensureSupervisor();
    const paths = runDirectory(bench.runDir).daemon(daemonIdOf('disk'));
    const { id, format, path } = bench.image('qcow2', 8 * MiB);
    const access = { direct: true, aio: 'native', discard: true } as const;
    const nodes = graphArgs([imageBlockdev({ nodeName: id, format, path, readOnly: false, backing: null }, access)]);
    const args = [...nodes, ...new NbdBackend().exportArgs(id, paths)];
    await client.startDaemon({ diskId: 'disk', arguments: args, labels: { by: 'nbd' } });
    const server = { socketPath: paths.nbdSocket, exportName: 'disk', connections: 4, identifier: paths.nbdSocket };
    await expect(connectNbdDevice(server)).rejects.toThrow('the kernel refuses to connect: No such file or directory');
    const wrongName = connectNbdDevice({ ...server, exportName: 'other' });
    await expect(wrongName).rejects.toThrow('the NBD server closed the connection');
    await client.stopDaemon('disk');
  });

  it('finds no device', async () => {
    expect(await findNbdDevice('/run/nbd.sock')).toBeNull();
  });
});

it('says that there is no server', async () => {
  await bench.ensureSupervisor();
  const server = { socketPath: '/nonexistent/nbd.sock', exportName: 'disk', connections: 1, identifier: 'x' };
  await expect(connectNbdDevice(server)).rejects.toThrow('/nonexistent/nbd.sock: No such file or directory');
});
