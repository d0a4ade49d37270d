import { afterEach, expect, it } from 'vitest';
import { LaminaError } from '../../../../src/lib/errors.ts';
import { NodePools, type ServedPool } from '../../../../src/reconcile/node/node-pools.ts';
import { until } from '../../../fakes/cluster-scene.ts';
import { ManualClock } from '../../../fakes/manual-clock.ts';
import { silentLogger } from '../../../fakes/silent-logger.ts';

const place = { name: 'default', directory: '/pools/default' };
const clock = new ManualClock();
const stop = new AbortController();
let running: Promise<void> = Promise.resolve();

afterEach(async () => {
  stop.abort();
  await running;
});

it('a pool that is refused again and again says so while it is opened, too, until it is served', async () => {
  let isRefused = true;
  const closed: string[] = [];
  const states: string[] = [];
  const refusal = new LaminaError('pool-replaced', 'another one');
  const pools: NodePools = new NodePools({
    places: [place],
    // As far as it is looked at.
    open: async () => ({ close: async () => void closed.push('closed') }) as unknown as ServedPool,
    confirm: async () => {
      if (isRefused) throw refusal;
    },
    onChange: (name) => {
      const state = pools.state(name);
      states.push(state?.kind === 'opened' ? `opened after ${String(state.refused)}` : (state?.kind ?? 'none'));
    },
    clock,
    logger: silentLogger,
  });
  running = pools.run(stop.signal);
  const again = `opened after ${String(refusal)}`;
  await until(() => states.length === 2);
  clock.advance(5000);
  await until(() => states.length === 4);
  isRefused = false;
  clock.advance(5000);
  await until(() => states.includes('serving'));
  expect(states).toEqual(['opened after undefined', 'failed', again, 'failed', again, 'serving']);
  expect(closed).toEqual(['closed', 'closed']);
});
