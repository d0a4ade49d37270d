import { describe, expect, it } from 'vitest';
import { type ConditionType, conditionTypes, failureCode, failureReason } from '../../../src/api/conditions.ts';
import { nameMeanings } from '../../../src/api/names.ts';
import { type ErrorCode, errorKinds } from '../../../src/lib/errors.ts';

const codes = Object.keys(errorKinds) as ErrorCode[];
const types = Object.entries(conditionTypes).flatMap(([kind, ofKind]) =>
  Object.entries<ConditionType>(ofKind).map(([type, condition]) => ({ name: `${kind}/${type}`, ...condition })),
);
const sentence = /^[A-Z].*[^.]\.$/;
/** As the API server wants it. */
const word = /^[A-Z][A-Za-z0-9]{1,62}$/;

describe.each(types)('the condition $name', ({ meaning, reasons }) => {
  it('says in one sentence what it means, and what each of its reasons means', () => {
    expect(meaning).toMatch(sentence);
    for (const [reason, { meaning: why }] of Object.entries(reasons)) {
      expect(reason).toMatch(word);
      expect(why).toMatch(sentence);
    }
  });

  it('can be true, and can be something else', () => {
    const statuses = new Set(Object.values(reasons).map(({ status }) => status));
    expect(statuses).toContain('True');
    expect(statuses.size).toBeGreaterThan(1);
  });

  it('has no reason that is a failure, which would be taken for that', () => {
    expect(Object.keys(reasons).filter((reason) => failureCode(reason))).toEqual([]);
  });
});

describe('a failure in a condition', () => {
  it('is the code of the error as one word, from which the code is had again', () => {
    expect(failureReason('pool-full')).toBe('PoolFull');
    for (const code of codes) {
      expect(failureReason(code)).toMatch(word);
      expect(failureCode(failureReason(code))).toBe(code);
    }
  });

  it('that nobody foresaw has a reason, too, and no code', () => {
    expect(failureReason(undefined)).toBe('Unexpected');
    expect(failureCode('Unexpected')).toBeUndefined();
    expect(failureCode('pool-full')).toBeUndefined();
  });
});

describe('names', () => {
  it('are explained in a sentence each', () => {
    for (const [name, meaning] of Object.entries(nameMeanings)) {
      expect(name).toMatch(/^([a-z]+\.)?lamina\.storage\/[a-z-]+$/);
      expect(meaning).toMatch(sentence);
    }
  });
});
