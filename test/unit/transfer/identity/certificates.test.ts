import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  issue,
  makeAuthority,
  needsRenewal,
  rotateAuthorities,
  signingAuthority,
} from '../../../../src/transfer/identity/certificates.ts';
import { memberName, roleName } from '../../../../src/transfer/identity/identity-names.ts';

const dayMs = 86_400_000;
const start = new Date('2026-01-01T00:00:00Z');
const after = (days: number) => new Date(start.getTime() + days * dayMs);

describe('certificates', () => {
  it('say who somebody is, signed by the authority, and no more', async () => {
    const authority = await makeAuthority({ now: start, lifetimeMs: 365 * dayMs });
    const { certificate } = await issue(
      authority,
      { role: 'node', name: 'worker-a' },
      { now: start, lifetimeMs: dayMs },
    );
    const own = new X509Certificate(certificate);
    const root = new X509Certificate(authority.certificate);
    expect(own.checkIssued(root) && own.verify(root.publicKey)).toBe(true);
    expect([own.ca, root.ca]).toEqual([false, true]);
    const strict = { subject: 'never', wildcards: false } as const;
    const names = [
      roleName('node'),
      memberName('node', 'worker-a'),
      memberName('node', 'worker-b'),
      roleName('controller'),
      memberName('controller', 'worker-a'),
    ];
    expect(names.map((name) => own.checkHost(name, strict) !== undefined)).toEqual([true, true, false, false, false]);
  });

  it('are not made for names that would stand for others', async () => {
    const authority = await makeAuthority({ now: start, lifetimeMs: dayMs });
    for (const name of ['*', 'a,b', 'a\n', '', '.', 'A']) {
      const made = issue(authority, { role: 'node', name }, { now: start, lifetimeMs: dayMs });
      await expect(made).rejects.toMatchObject({ code: 'invalid-parameter' });
    }
  });

  it('do not outlive their authority', async () => {
    const authority = await makeAuthority({ now: start, lifetimeMs: 10 * dayMs });
    const who = { role: 'controller', name: 'a' } as const;
    const { certificate } = await issue(authority, who, { now: after(5), lifetimeMs: 30 * dayMs });
    expect(new X509Certificate(certificate).validToDate).toEqual(after(10));
  });

  it('need renewal when two thirds of their life are over, or the clock says that they are not valid yet', async () => {
    const { certificate } = await makeAuthority({ now: start, lifetimeMs: 30 * dayMs });
    expect([0, 19, 21, 31, -1].map((days) => needsRenewal(certificate, after(days)))).toEqual([
      false,
      false,
      true,
      true,
      true,
    ]);
  });

  it('go over from one authority to the next without a moment in which one is trusted by half of the nodes', async () => {
    const lifetimeMs = 30 * dayMs;
    const settleMs = dayMs;
    const [first] = await rotateAuthorities([], { now: start, lifetimeMs });
    expect(
      signingAuthority(
        [first].flatMap((each) => each ?? []),
        { now: start, settleMs },
      ),
    ).toBe(first);
    const same = await rotateAuthorities(
      [first].flatMap((each) => each ?? []),
      { now: after(10), lifetimeMs },
    );
    expect(same).toEqual([first]);
    const both = await rotateAuthorities(same, { now: after(21), lifetimeMs });
    expect(both).toHaveLength(2);
    expect(both[0]).toBe(first);
    // Not everybody trusts it yet.
    expect(signingAuthority(both, { now: after(21.5), settleMs })).toBe(first);
    expect(signingAuthority(both, { now: after(22.1), settleMs })).toBe(both[1]);
    expect(await rotateAuthorities(both, { now: after(22.1), lifetimeMs })).toEqual(both);
    expect(await rotateAuthorities(both, { now: after(30.1), lifetimeMs })).toEqual([both[1]]);
  });
});
