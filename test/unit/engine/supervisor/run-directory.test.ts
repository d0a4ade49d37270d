import { describe, expect, it } from 'vitest';
import { daemonIdOf, daemonIdPattern, runDirectory } from '../../../../src/engine/supervisor/run-directory.ts';

describe('runDirectory', () => {
  it('keeps every socket within what Linux allows, or says by how much not', () => {
    const longest = `/${'r'.repeat(65)}`;
    const paths = runDirectory(longest).daemon(daemonIdOf('d'.repeat(128)));
    for (const socket of [paths.operationsSocket, paths.healthSocket, paths.nbdSocket]) {
      expect(Buffer.byteLength(socket)).toBeLessThan(108);
    }
    expect(() => runDirectory(`${longest}r`)).toThrow('1 bytes too long');
  });

  it('refuses a relative path, which daemons would take from elsewhere', () => {
    expect(() => runDirectory('run')).toThrow('an absolute path is needed');
  });

  it('gives every disk a short id of its own, always the same', () => {
    expect(daemonIdOf('disk')).toMatch(daemonIdPattern);
    expect(daemonIdOf('disk')).toBe(daemonIdOf('disk'));
    expect(daemonIdOf('disk')).not.toBe(daemonIdOf('disk2'));
  });
});
