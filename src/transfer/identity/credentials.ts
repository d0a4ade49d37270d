/** What a node shows to others and trusts of them; all PEM. */
export interface Credentials {
  certificate: string;
  key: string;
  /** While authorities are exchanged, the old and the new one. */
  authorities: readonly string[];
}

/** Both ends of our connections are ours, and speak the newest TLS. */
export function tlsOptions({ certificate, key, authorities }: Credentials) {
  return { cert: certificate, key, ca: [...authorities], minVersion: 'TLSv1.3' as const };
}
