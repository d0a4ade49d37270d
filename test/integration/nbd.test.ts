import path from 'node:path';
import { expect, it } from 'vitest';
import { run } from '../../src/lib/exec.ts';

const machine = path.resolve(import.meta.dirname, '../vm/run');
const minute = 60_000;
/** Four minutes on processors of its own, twelve where others keep them busy. */
const limitMinutes = 40;

/** What test/vm/run answers where there can be no emulated machine, and where it did not come to an end. */
const [cannot, late, broken] = [77, 124, 125];

it(
  'attaches disks by the network block devices of a kernel that has them (test/vm/nbd.test.ts, emulated)',
  async (context) => {
    // The first start of a program takes up to half a minute there, which no deadline of the engine allows for.
    const warmUp =
      'qemu-storage-daemon --version && node -e "await import(\'/lamina/src/engine/supervisor/supervisor.ts\')"';
    const command = ['bash', '-c', `${warmUp} && vitest run --project vm --reporter=verbose`];
    const { exitCode, stdout, stderr } = await run(
      machine,
      ['--timeout', String(limitMinutes * 60), '--memory', '2048', ...command],
      {
        timeoutMs: (limitMinutes + 5) * minute,
        okExitCodes: [1, cannot, late, broken],
      },
    );
    if (exitCode === cannot)
      return context.skip(`there can be no emulated machine: ${stderr.trim().split('\n').at(-1)}`);
    expect(exitCode, `${stdout}\n${stderr}`).toBe(0);
    expect(stdout).toMatch(/Tests +[0-9]+ passed/);
  },
  (limitMinutes + 6) * minute,
);
