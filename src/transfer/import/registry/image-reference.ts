import { LaminaError } from '../../../lib/errors.ts';

/** What a reference of a container image says. */
export interface ImageReference {
  /** Host, and port where there is one, as it is written. */
  registry: string;
  repository: string;
  /** What to ask the registry for: the digest where there is one, else the tag. */
  version: string;
  /** `sha256:…`, where nothing else will do. */
  digest: string | null;
}

const pattern =
  /^((?:[a-z0-9][a-z0-9.-]*|\[[0-9a-f:]+\])(?::\d+)?)\/([a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)(?::(\w[\w.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$/;

/**
 * Reads a reference such as `registry.example.org/images/debian:13@sha256:…`; without tag and digest it is `latest`. It
 * begins with its registry, which is never guessed.
 *
 * @throws LaminaError `invalid-parameter`
 */
export function parseImageReference(image: string): ImageReference {
  const [, registry, repository, tag, digest] =
    pattern.exec(image.replace(/^[^/]+/, (host) => host.toLowerCase())) ?? [];
  if (registry === undefined || repository === undefined || !/[.:]|^localhost$/.test(registry)) {
    throw new LaminaError(
      'invalid-parameter',
      `${image} is no reference of a container image: write one such as registry.example.org/images/debian:13`,
    );
  }
  return { registry, repository, version: digest ?? tag ?? 'latest', digest: digest ?? null };
}

/** Where the registry's API is: by TLS, but for one on this machine. */
export function apiOf({ registry, repository }: ImageReference): string {
  // The name that everybody writes is not that of the machine.
  if (registry === 'docker.io') {
    return `https://registry-1.docker.io/v2/${repository.includes('/') ? repository : `library/${repository}`}`;
  }
  return `${isLocal(registry) ? 'http' : 'https'}://${registry}/v2/${repository}`;
}

export function isLocal(host: string): boolean {
  return /^(localhost|127\.\d+\.\d+\.\d+)(:\d+)?$/.test(host);
}
