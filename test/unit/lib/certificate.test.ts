import { createPrivateKey, X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { selfSignedCertificate } from '../../../src/lib/certificate.ts';

const dayMs = 86_400_000;
const make = (now = new Date('2026-03-01T12:00:00Z')) =>
  selfSignedCertificate({ commonName: 'a, CN=b', names: ['here.example', '10.0.0.1', '::1'], now, lifetimeMs: dayMs });

describe('a self-signed certificate', () => {
  it('is signed with its own key, which comes with it', async () => {
    const { certificate, key } = await make();
    const parsed = new X509Certificate(certificate);
    expect(parsed.verify(parsed.publicKey)).toBe(true);
    expect(parsed.checkPrivateKey(createPrivateKey(key))).toBe(true);
    expect(parsed.issuer).toBe(parsed.subject);
    expect(parsed.publicKey.asymmetricKeyDetails).toEqual({ namedCurve: 'prime256v1' });
  });

  it('is for a server of those names and addresses, and signs no others', async () => {
    const parsed = new X509Certificate((await make()).certificate);
    expect(parsed.subject).toBe('CN=a\\, CN=b');
    expect(parsed.checkHost('here.example')).toBe('here.example');
    expect(parsed.checkHost('there.example')).toBeUndefined();
    expect(parsed.checkIP('10.0.0.1')).toBe('10.0.0.1');
    expect(parsed.checkIP('::1')).toBe('::1');
    expect(parsed.ca).toBe(false);
    expect(parsed.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
  });

  it('is valid for as long as is asked for, and an hour before, as clocks differ', async () => {
    const parsed = new X509Certificate((await make()).certificate);
    expect(Date.parse(parsed.validFrom)).toBe(Date.parse('2026-03-01T11:00:00Z'));
    expect(Date.parse(parsed.validTo)).toBe(Date.parse('2026-03-02T12:00:00Z'));
  });

  it('is another one each time, with a positive serial number', async () => {
    const all = await Promise.all(Array.from({ length: 50 }, () => make()));
    const numbers = all.map(({ certificate }) => new X509Certificate(certificate).serialNumber);
    expect(new Set(numbers).size).toBe(50);
    expect(numbers.every((number) => /^[4-7][0-9A-F]{31}$/.test(number))).toBe(true);
    expect(new Set(all.map(({ key }) => key)).size).toBe(50);
  });
});
