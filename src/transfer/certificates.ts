import { createPrivateKey, X509Certificate as Certificate, webcrypto } from 'node:crypto';
// Before the library, which looks for what it loads.
import { type CertifiedKey, inPem, keyAlgorithm, newSerialNumber, skewMs } from '../lib/certificate.ts';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { LaminaError } from '../lib/errors.ts';
import { identityNames, type Role } from './identity-names.ts';

export interface Validity {
  now: Date;
  lifetimeMs: number;
}

/** Renewed after this part of their life, so that there is time left where renewing fails for a while. */
const renewAfter = 2 / 3;
const plainName = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/;

/** A new authority of our own, which signs the certificates of nodes and controller, and no other authority. */
export async function makeAuthority({ now, lifetimeMs }: Validity): Promise<CertifiedKey> {
  const keys = await newKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerialNumber(),
    name: [{ CN: ['Lamina authority'] }],
    ...period(now, now.getTime() + lifetimeMs),
    signingAlgorithm: keyAlgorithm,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return inPem(certificate, keys.privateKey);
}

/**
 * A certificate for `name` in a role, for both ends of a connection. It does not outlive the authority. Verified by
 * what TLS libraries do anyway: the chain, the time, and the DNS names of identity-names.ts.
 *
 * @throws LaminaError `invalid-parameter` for a name that no Kubernetes object has
 */
export async function issue(
  authority: CertifiedKey,
  { role, name }: { role: Role; name: string },
  { now, lifetimeMs }: Validity,
): Promise<CertifiedKey> {
  // A `*` would stand for everybody.
  if (!plainName.test(name)) throw new LaminaError('invalid-parameter', `'${name}' cannot be named in a certificate`);
  const issuer = new X509Certificate(authority.certificate);
  const keys = await newKeys();
  const names = identityNames(role, name).map((value) => ({ type: 'dns' as const, value }));
  const extensions: Extension[] = [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
    new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
    new SubjectAlternativeNameExtension(names),
    await AuthorityKeyIdentifierExtension.create(issuer),
  ];
  const certificate = await X509CertificateGenerator.create({
    serialNumber: newSerialNumber(),
    subject: [{ CN: [`Lamina ${role}`] }],
    issuer: issuer.subjectName,
    ...period(now, Math.min(now.getTime() + lifetimeMs, issuer.notAfter.getTime())),
    signingAlgorithm: keyAlgorithm,
    publicKey: keys.publicKey,
    signingKey: createPrivateKey(authority.key).toCryptoKey(keyAlgorithm, false, ['sign']),
    extensions,
  });
  return inPem(certificate, keys.privateKey);
}

/** Whether two thirds of a certificate's life are over, or it is not valid at all at this time. */
export function needsRenewal(certificate: string, now: Date): boolean {
  const { validFromDate, validToDate } = new Certificate(certificate);
  const from = validFromDate.getTime();
  const due = from + (validToDate.getTime() - from) * renewAfter;
  return now.getTime() >= due || now.getTime() < from;
}

/**
 * The authorities after `now`, oldest first: those that expired are gone, and where the newest needs renewal there is
 * another. All of them are to be trusted by everybody, so that certificates of the old and of the new one work together.
 */
export async function rotateAuthorities(
  authorities: readonly CertifiedKey[],
  validity: Validity,
): Promise<CertifiedKey[]> {
  const { now } = validity;
  const valid = authorities.filter(({ certificate }) => new Certificate(certificate).validToDate > now);
  const newest = valid.at(-1);
  if (newest && !needsRenewal(newest.certificate, now)) return valid;
  return [...valid, await makeAuthority(validity)];
}

/**
 * The authority to sign with: the newest that is at least `settleMs` old, so that all have come to trust it; where none
 * is, the oldest.
 */
export function signingAuthority(
  authorities: readonly CertifiedKey[],
  { now, settleMs }: { now: Date; settleMs: number },
): CertifiedKey | undefined {
  const settled = authorities.filter(({ certificate }) => {
    const madeAtMs = new Certificate(certificate).validFromDate.getTime() + skewMs;
    return now.getTime() - madeAtMs >= settleMs;
  });
  return settled.at(-1) ?? authorities[0];
}

function period(now: Date, endMs: number): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(now.getTime() - skewMs), notAfter: new Date(endMs) };
}

function newKeys() {
  return webcrypto.subtle.generateKey(keyAlgorithm, true, ['sign', 'verify']);
}
