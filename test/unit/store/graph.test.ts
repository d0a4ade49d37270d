import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chainIds, childrenOf, type LayerGraph, unreferencedLayers } from '../../../src/store/graph.ts';
import { type LayerId, layerIdSchema } from '../../../src/store/records.ts';

const id = (n: number): LayerId => layerIdSchema.parse(`l${n}`);

/** A forest: every layer's parent, if any, was made before it. */
const forests = fc
  .array(fc.nat(), { maxLength: 40 })
  .map(
    (picks) =>
      new Map(picks.map((pick, n) => [id(n), { id: id(n), parent: pick % (n + 1) === n ? null : id(pick % (n + 1)) }])),
  );

function linear(length: number): LayerGraph {
  return new Map(Array.from({ length }, (_, n) => [id(n), { id: id(n), parent: n === 0 ? null : id(n - 1) }]));
}

describe('the layer graph', () => {
  it('lists a chain head first', () => {
    expect(chainIds(linear(3), id(2))).toEqual([id(2), id(1), id(0)]);
  });

  it('ends a chain at a missing layer and at a cycle', () => {
    const cycle: LayerGraph = new Map([
      [id(0), { id: id(0), parent: id(1) }],
      [id(1), { id: id(1), parent: id(0) }],
    ]);
    expect(chainIds(cycle, id(0))).toEqual([id(0), id(1)]);
    expect(chainIds(linear(2), id(7))).toEqual([]);
  });

  it('collects exactly the layers that no root leads to', () => {
    fc.assert(
      fc.property(forests, fc.array(fc.nat()), (graph, picks) => {
        const roots = picks.map((pick) => id(pick % Math.max(1, graph.size))).filter((root) => graph.has(root));
        const dead = new Set(unreferencedLayers(graph, roots));
        const live = new Set(roots.flatMap((root) => chainIds(graph, root)));
        for (const layer of graph.keys()) expect(dead.has(layer)).toBe(!live.has(layer));
      }),
    );
  });

  it('collects children before their parents, so that no layer ever lacks its backing file', () => {
    fc.assert(
      fc.property(forests, (graph) => {
        const order = unreferencedLayers(graph, []);
        const position = new Map(order.map((layer, n) => [layer, n]));
        for (const { id: layer, parent } of graph.values()) {
          if (parent !== null) expect(position.get(layer)).toBeLessThan(position.get(parent) as number);
        }
      }),
    );
  });

  it('finds the children of every layer', () => {
    fc.assert(
      fc.property(forests, (graph) => {
        const children = childrenOf(graph);
        for (const { id: layer, parent } of graph.values()) {
          if (parent !== null) expect(children.get(parent)).toContain(layer);
        }
        expect([...children.values()].flat()).toHaveLength([...graph.values()].filter(({ parent }) => parent).length);
      }),
    );
  });
});
