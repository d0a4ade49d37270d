import { createPrivateKey, KeyObject, X509Certificate as Certificate, webcrypto } from 'node:crypto';
// Before the library, which looks for what it loads.
import { type CertifiedKey, inPem, keyAlgorithm, newSerialNumber, skewMs } from '../../lib/certificate.ts';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  type PublicKeyType,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { LaminaError, messageOf } from '../../lib/errors.ts';
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
  const keys = await newKeys();
  return inPem(await certificateFor(authority, keys.publicKey, { role, name }, { now, lifetimeMs }), keys.privateKey);
}

/** A new key, and what asks to have it certified; both PEM. It names nobody: whoever signs it knows who asks. */
export async function newCertificateRequest(): Promise<{ key: string; request: string }> {
  const keys = await newKeys();
  const request = await Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: keyAlgorithm });
  const key = KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' });
  return { key: key.toString(), request: `${request.toString('pem').trimEnd()}\n` };
}

/**
 * A certificate as `issue` makes it, for the key of a request; of what that says otherwise nothing is believed.
 *
 * @returns PEM
 * @throws LaminaError `invalid-parameter` for what is no request, or not signed with its own key
 */
export async function certify(
  authority: CertifiedKey,
  request: string,
  member: { role: Role; name: string },
  validity: Validity,
): Promise<string> {
  const asked = await parseRequest(request);
  const certificate = await certificateFor(authority, asked.publicKey, member, validity);
  return `${certificate.toString('pem').trimEnd()}\n`;
}

async function parseRequest(request: string): Promise<Pkcs10CertificateRequest> {
  try {
    const parsed = new Pkcs10CertificateRequest(request);
    if (await parsed.verify()) return parsed;
  } catch (error) {
    throw new LaminaError('invalid-parameter', `this is no certificate request: ${messageOf(error)}`, { cause: error });
  }
  throw new LaminaError('invalid-parameter', 'the certificate request is not signed with its own key');
}

async function certificateFor(
  authority: CertifiedKey,
  publicKey: PublicKeyType,
  { role, name }: { role: Role; name: string },
  { now, lifetimeMs }: Validity,
): Promise<X509Certificate> {
  // A `*` would stand for everybody.
  if (!plainName.test(name)) throw new LaminaError('invalid-parameter', `'${name}' cannot be named in a certificate`);
  const issuer = new X509Certificate(authority.certificate);
  const names = identityNames(role, name).map((value) => ({ type: 'dns' as const, value }));
  const extensions: Extension[] = [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
    new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
    new SubjectAlternativeNameExtension(names),
    await AuthorityKeyIdentifierExtension.create(issuer),
  ];
  return X509CertificateGenerator.create({
    serialNumber: newSerialNumber(),
    subject: [{ CN: [`Lamina ${role}`] }],
    issuer: issuer.subjectName,
    ...period(now, Math.min(now.getTime() + lifetimeMs, issuer.notAfter.getTime())),
    signingAlgorithm: keyAlgorithm,
    publicKey,
    signingKey: createPrivateKey(authority.key).toCryptoKey(keyAlgorithm, false, ['sign']),
    extensions,
  });
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
