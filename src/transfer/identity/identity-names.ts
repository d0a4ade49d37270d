/** What a certificate of ours may be for. Only nodes exchange layers. */
export type Role = 'node' | 'controller';

/** DNS names that nobody resolves: they say who somebody is, wherever their address is. */
const domain = 'lamina.storage';

/** The name that every certificate of a role has. */
export function roleName(role: Role): string {
  return `${role}.${domain}`;
}

/** The name that the certificate of just one has, which a client asks for. */
export function memberName(role: Role, name: string): string {
  return `${name}.${roleName(role)}`;
}

/** All names in a certificate. */
export function identityNames(role: Role, name: string): string[] {
  return [roleName(role), memberName(role, name)];
}
