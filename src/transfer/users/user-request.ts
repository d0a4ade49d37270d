import type { IncomingMessage } from 'node:http';
import { LaminaError } from '../../lib/errors.ts';
import { type Format, formats } from '../../store/records.ts';

/** What can be exported, by the names that Kubernetes has for it. */
export const exportedResources = ['diskimages', 'disksnapshots', 'volumesnapshots'] as const;
export type ExportedResource = (typeof exportedResources)[number];

interface Named {
  namespace: string;
  name: string;
  headOnly: boolean;
}

export interface ExportRequest extends Named {
  action: 'export';
  resource: ExportedResource;
  format: Format;
}

export interface UploadRequest extends Named {
  action: 'upload';
  resource: 'diskimages';
}

/** What somebody with a token asks for. */
export type UserRequest = ExportRequest | UploadRequest;

const base = 'https://node';
const bearer = /^Bearer +([A-Za-z0-9._~+/=-]+) *$/i;
/** As Kubernetes names namespaces, and the others. */
const label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const subdomain = /^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$/;

/** The bearer token of a request, or undefined where there is none. */
export function tokenOf({ headers }: IncomingMessage): string | undefined {
  return bearer.exec(headers.authorization ?? '')?.[1];
}

/** Where a request asks for it, behind the node's address. */
export function pathOf({
  namespace,
  name,
  ...wanted
}: Omit<ExportRequest, 'headOnly'> | Omit<UploadRequest, 'headOnly'>) {
  const file = wanted.action === 'export' ? `disk.${wanted.format}` : 'upload';
  return `/v1/namespaces/${namespace}/${wanted.resource}/${name}/${file}`;
}

/** @throws LaminaError `invalid-parameter` */
export function parseUserRequest({ method = '', url = '' }: IncomingMessage): UserRequest {
  // What follows the path is none of ours, and may be a secret; this is logged.
  const refuse = () => new LaminaError('invalid-parameter', `nothing answers ${method} ${url.split('?')[0]}`);
  if (!URL.canParse(url, base)) throw refuse();
  // No name that Kubernetes gives is written in another way in a URL.
  const parts = new URL(url, base).pathname.split('/').slice(1);
  const [version, namespaces, namespace = '', resources, name = '', file, ...more] = parts;
  const resource = exportedResources.find((each) => each === resources);
  if (version !== 'v1' || namespaces !== 'namespaces' || !resource || more.length > 0) throw refuse();
  if (!label.test(namespace) || !subdomain.test(name)) throw refuse();
  const headOnly = method === 'HEAD';
  const format = formats.find((each) => `disk.${each}` === file);
  if (format && (method === 'GET' || headOnly)) {
    return { action: 'export', namespace, resource, name, format, headOnly };
  }
  if (resource === 'diskimages' && file === 'upload' && (method === 'PUT' || headOnly)) {
    return { action: 'upload', namespace, resource, name, headOnly };
  }
  throw refuse();
}
