// Must come first: the library below looks for it when it is loaded.
import 'reflect-metadata';
import { KeyObject, randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';

/** A certificate and its private key, both PEM. */
export interface CertifiedKey {
  certificate: string;
  key: string;
}

export interface CertificateRequest {
  commonName: string;
  /** DNS names and IP addresses at which the server is asked. */
  names: readonly string[];
  now: Date;
  lifetimeMs: number;
}

/** What the clocks of two machines may differ: so much before it is made, a certificate begins to be valid. */
export const skewMs = 3_600_000;
/** Small, fast and understood by everything that speaks TLS today. */
export const keyAlgorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/**
 * A new key, and a server's certificate that it has signed itself: it encrypts, but tells nobody who the server is.
 * Loading this file takes 7 MB, so import it where it is needed.
 */
export async function selfSignedCertificate(request: CertificateRequest): Promise<CertifiedKey> {
  const { commonName, names, now, lifetimeMs } = request;
  const keys = await webcrypto.subtle.generateKey(keyAlgorithm, true, ['sign', 'verify']);
  const alternatives = names.map((value) => ({ type: isIP(value) ? ('ip' as const) : ('dns' as const), value }));
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerialNumber(),
    name: [{ CN: [commonName] }],
    notBefore: new Date(now.getTime() - skewMs),
    notAfter: new Date(now.getTime() + lifetimeMs),
    signingAlgorithm: keyAlgorithm,
    keys,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension(alternatives),
    ],
  });
  return inPem(certificate, keys.privateKey);
}

export function inPem(certificate: X509Certificate, privateKey: webcrypto.CryptoKey): CertifiedKey {
  const key = KeyObject.from(privateKey).export({ type: 'pkcs8', format: 'pem' });
  // With its end of line, as whoever puts several into one file expects.
  return { certificate: `${certificate.toString('pem').trimEnd()}\n`, key: key.toString() };
}

/** Positive, as RFC 5280 wants it: the highest bit is clear, and the number is never 0. */
export function newSerialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}
