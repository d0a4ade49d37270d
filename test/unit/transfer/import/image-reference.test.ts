import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isLaminaError } from '../../../../src/lib/errors.ts';
import { apiOf, parseImageReference } from '../../../../src/transfer/import/registry/image-reference.ts';
import { loginFor } from '../../../../src/transfer/import/registry/pull-secret.ts';

const digest = `sha256:${'a'.repeat(64)}`;

describe('the reference of a container image', () => {
  it.each([
    ['registry.example.org/debian', 'latest', 'https://registry.example.org/v2/debian'],
    ['registry.example.org:5000/a/b-c/d__e:13.1', '13.1', 'https://registry.example.org:5000/v2/a/b-c/d__e'],
    [`registry.example.org/debian@${digest}`, digest, 'https://registry.example.org/v2/debian'],
    [`registry.example.org/debian:13@${digest}`, digest, 'https://registry.example.org/v2/debian'],
    ['docker.io/debian:13', '13', 'https://registry-1.docker.io/v2/library/debian'],
    ['docker.io/team/disk:13', '13', 'https://registry-1.docker.io/v2/team/disk'],
    ['localhost:5000/disk', 'latest', 'http://localhost:5000/v2/disk'],
    ['Registry.Example.org/disk', 'latest', 'https://registry.example.org/v2/disk'],
    ['[fd00::1]:5000/disk', 'latest', 'https://[fd00::1]:5000/v2/disk'],
    ['127.0.0.1.example.org/disk', 'latest', 'https://127.0.0.1.example.org/v2/disk'],
  ])('%s is asked for as %s at %s', (image, version, api) => {
    const reference = parseImageReference(image);
    expect([reference.version, apiOf(reference)]).toEqual([version, api]);
  });

  it.each([
    'debian',
    'library/debian',
    'docker://registry.example.org/debian',
    'registry.example.org',
    'registry.example.org/',
    'registry.example.org/Debian',
    'registry.example.org/../debian',
    'registry.example.org/debian:',
    'registry.example.org/debian@sha256:abc',
    'user:password@registry.example.org/debian',
    'registry.example.org/debian?x',
  ])('%s is none', (image) => {
    expect(() => parseImageReference(image)).toThrow(/is no reference of a container image/);
  });

  it('leads to its registry and nowhere else, whatever is written', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-z.:@/]{1,20}\/[a-z:@./-]{1,20}$/)), (image) => {
        try {
          const reference = parseImageReference(image);
          const url = new URL(apiOf(reference));
          expect(url.pathname).toMatch(/^\/v2\/[a-z0-9]/);
          expect([url.username, url.search, url.hash]).toEqual(['', '', '']);
        } catch (error) {
          if (!isLaminaError(error, 'invalid-parameter')) throw error;
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('a pull secret', () => {
  const entry = (user: string) => ({ auth: Buffer.from(`${user}:secret`).toString('base64') });
  it.each([
    ['registry.example.org/team/disk', ['registry.example.org'], 'registry.example.org'],
    ['registry.example.org/team/disk', ['https://registry.example.org/v1/'], 'https://registry.example.org/v1/'],
    [
      'registry.example.org/team/disk',
      ['registry.example.org', 'registry.example.org/team'],
      'registry.example.org/team',
    ],
    ['registry.example.org/teams/disk', ['registry.example.org/team'], null],
    ['registry.example.org:5000/disk', ['registry.example.org'], null],
    ['registry.example.org/disk', ['*.example.org'], '*.example.org'],
    ['registry.example.org/disk', ['reg*.example.org'], 'reg*.example.org'],
    ['a.registry.example.org/disk', ['*.example.org'], null],
    ['registry.example.org.evil.net/disk', ['registry.example.org', '*.example.org'], null],
    ['docker.io/debian', ['https://index.docker.io/v1/'], 'https://index.docker.io/v1/'],
  ])('for %s with entries for %j logs in with %s', (image, keys, expected) => {
    const auths = Object.fromEntries(keys.map((key) => [key, entry(key.replaceAll(':', '_'))]));
    const login = loginFor({ auths }, parseImageReference(image));
    expect(login?.user ?? null).toBe(expected?.replaceAll(':', '_') ?? null);
  });
});
