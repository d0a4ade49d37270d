import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import * as z from 'zod/mini';
import { deviceNumber } from '../../host/block-device.ts';
import { currentBootId } from '../../host/process.ts';
import { ifErrno } from '../../lib/errors.ts';
import { parseJson } from '../../lib/parse-json.ts';
import { type DataPath, dataPathSchema } from './data-path.ts';

/** What the outcome of a self-test depends on. */
const surroundingsSchema = z.strictObject({
  qemu: z.string(),
  kernel: z.string(),
  bootId: z.string(),
  /** Of the pool's file system. */
  device: z.string(),
  preferNbd: z.boolean(),
});
type Surroundings = z.infer<typeof surroundingsSchema>;

const cacheSchema = z.strictObject({
  version: z.literal(1),
  surroundings: surroundingsSchema,
  dataPath: dataPathSchema,
});

export async function surroundingsOf(poolPath: string, qemu: string, preferNbd: boolean): Promise<Surroundings> {
  const bootId = await currentBootId();
  const { dev } = await stat(poolPath, { bigint: true });
  return { qemu, kernel: release(), bootId, device: deviceNumber(dev), preferNbd };
}

/** The outcome in the same surroundings, or null. What is not understood counts as none: the test can be run again. */
export async function readCachedDataPath(file: string, surroundings: Surroundings): Promise<DataPath | null> {
  const text = await readFile(file, 'utf8').catch(ifErrno('ENOENT', ''));
  const cached = cacheSchema.safeParse(parseJson(text));
  if (!cached.success) return null;
  const isSame = JSON.stringify(cached.data.surroundings) === JSON.stringify(surroundings);
  return isSame ? cached.data.dataPath : null;
}

export async function writeCachedDataPath(file: string, surroundings: Surroundings, dataPath: DataPath): Promise<void> {
  await writeFile(`${file}.new`, JSON.stringify({ version: 1, surroundings, dataPath }), { mode: 0o600 });
  await rename(`${file}.new`, file);
}
