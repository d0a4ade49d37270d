import { expect, it } from 'vitest';
import { GiB, MiB } from '../../../src/lib/bytes.ts';
import { pauseMarks } from '../../../src/store/space.ts';

it.each([
  ['half of the critical mark', 1000 * GiB, 20 * GiB, 10 * GiB, 20 * GiB],
  ['64 MiB where that is less', 3 * GiB, 60 * MiB, 64 * MiB, 128 * MiB],
  ['a twentieth of what is smaller', 400 * MiB, 8 * MiB, 20 * MiB, 40 * MiB],
  ['nothing where nothing is critical', 1000 * GiB, 0, 0, 0],
])('writes wait below %s', (_, totalBytes, criticalBytes, pauseBytes, resumeBytes) => {
  expect(pauseMarks(totalBytes, criticalBytes)).toEqual({ pauseBytes, resumeBytes });
});
