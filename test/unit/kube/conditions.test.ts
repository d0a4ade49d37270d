import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Condition, ConditionReport, findCondition, isTrue } from '../../../src/kube/conditions.ts';

const noon = new Date('2026-01-01T12:00:00.123Z');
const later = new Date('2026-01-01T13:00:00Z');

describe('conditions', () => {
  it('begin as Unknown, with the time and the generation', () => {
    expect(new ConditionReport(['Ready']).conditions([], 3, noon)).toEqual([
      {
        type: 'Ready',
        status: 'Unknown',
        reason: 'NotChecked',
        message: 'It was not looked at yet.',
        lastTransitionTime: '2026-01-01T12:00:00Z',
        observedGeneration: 3,
      },
    ]);
  });

  it('say the worst that was found, and of equally bad things the first', () => {
    const report = new ConditionReport(['Ready', 'Healthy']);
    report.report('Ready', 'True', 'Made', 'it is there');
    report.report('Ready', 'False', 'PoolFull', 'no room');
    report.report('Ready', 'False', 'Making', 'half');
    report.report('Ready', 'Unknown', 'NodeSilent', 'nothing heard');
    report.report('Healthy', 'Unknown', 'NodeSilent', 'nothing heard');
    report.report('Healthy', 'True', 'NothingFound', 'fine');
    const conditions = report.conditions([], 1, noon);
    expect(conditions.map(({ type, status, reason }) => [type, status, reason])).toEqual([
      ['Ready', 'False', 'PoolFull'],
      ['Healthy', 'Unknown', 'NodeSilent'],
    ]);
    expect(report.found('Ready')?.message).toBe('no room');
    expect([isTrue(conditions, 'Ready'), isTrue(conditions, 'Gone')]).toEqual([false, false]);
  });

  it('say no more than an object may hold, and cut no character in two', () => {
    const report = new ConditionReport(['Ready']);
    report.report('Ready', 'False', 'ImageRefused', `${'x'.repeat(4094)}😀${'y'.repeat(10_000)}`);
    expect(report.found('Ready')?.message).toBe(`${'x'.repeat(4094)}…`);
  });

  it('keep the time of their last transition as long as the status is the same', () => {
    const first = new ConditionReport(['Ready']);
    first.report('Ready', 'False', 'Making', '10 %');
    const before = first.conditions([], 1, noon);
    const second = new ConditionReport(['Ready']);
    second.report('Ready', 'False', 'Making', '20 %');
    const during = second.conditions(before, 2, later);
    expect(during).toMatchObject([
      { message: '20 %', lastTransitionTime: '2026-01-01T12:00:00Z', observedGeneration: 2 },
    ]);
    const third = new ConditionReport(['Ready']);
    third.report('Ready', 'True', 'Made', 'done');
    expect(third.conditions(during, 2, later)).toMatchObject([
      { status: 'True', lastTransitionTime: '2026-01-01T13:00:00Z' },
    ]);
  });

  it('of others stay as they are, in their place', () => {
    const theirs: Condition = {
      type: 'Theirs',
      status: 'False',
      reason: 'No',
      message: '',
      lastTransitionTime: '2020-01-01T00:00:00Z',
    };
    const report = new ConditionReport(['Ready']);
    report.report('Ready', 'True', 'Made', 'done');
    const once = report.conditions([theirs], 1, noon);
    expect(once.map(({ type }) => type)).toEqual(['Theirs', 'Ready']);
    expect(findCondition(once, 'Theirs')).toBe(theirs);
  });

  it('are the same again when nothing has changed, so that nothing is written', () => {
    const status = fc.constantFrom('True' as const, 'False' as const, 'Unknown' as const);
    const finding = fc.tuple(fc.constantFrom('Ready', 'Healthy'), status, fc.constantFrom('A', 'B'), fc.string());
    fc.assert(
      fc.property(fc.array(finding), (findings) => {
        const report = () => {
          const made = new ConditionReport(['Ready', 'Healthy']);
          for (const each of findings) made.report(...each);
          return made;
        };
        const once = report().conditions([], 1, noon);
        expect(report().conditions(once, 1, later)).toEqual(once);
      }),
    );
  });
});
