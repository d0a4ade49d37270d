import { expect, it } from 'vitest';
import { stories } from './stories.ts';

stories('a hundred claims at once', (scene) => {
  it('are all bound on two nodes, half of them deleted while they are made, and nothing is left', async () => {
    const { cluster, user } = scene();
    const names = Array.from({ length: 100 }, (_, index) => `many-${index}`);
    const nodes = ['worker-a', 'worker-b'] as const;
    await Promise.all(
      names.map(async (name, index) => {
        await user.claim({ name });
        await user.pod({ name, claims: [name], node: nodes[index % 4 < 2 ? 0 : 1] });
      }),
    );
    const deleted = names.filter((_, index) => index % 2 === 0);
    const kept = names.filter((_, index) => index % 2 === 1);
    await user.remove('pods', ...deleted);
    await user.remove('claims', ...deleted);
    const found = await Promise.all(kept.map((name) => user.bound(name, 240_000)));
    for (const node of nodes) expect(found.filter((bound) => bound.node === node)).toHaveLength(25);
    await user.remove('pods', ...kept);
    await user.remove('claims', ...kept);
    await expect.poll(() => cluster.leftovers(), { timeout: 240_000, interval: 500 }).toEqual([]);
  }, 600_000);
});
