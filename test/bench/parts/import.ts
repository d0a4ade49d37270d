import { execFile, spawn } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, open, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { formatBytes, GiB, MiB } from '../../../src/lib/bytes.ts';
import { messageOf } from '../../../src/lib/errors.ts';
import type { ImportFigures } from '../../fixtures/timed-import.ts';
import { type Bench, interleave } from '../bench.ts';
import { medianResult, type Result } from '../results.ts';
import { ratios } from '../statistics.ts';

const rounds = 5;
/** How much smaller the image is whose import takes as much memory. */
const fraction = 8;
/** Three processes at once, of which a busy machine gives each as much time as the one that imports; so processor time is measured, too. */
const curlScript = 'curl -sSf "$1" | tee "$2" | sha256sum --check --status <(echo "$3  -"); sync "$2"';
/** With more than one request at a time the driver of QEMU 10.0.2 waits for ever. */
const qemuImgScript = 'qemu-img convert -m 1 -f qcow2 -O qcow2 "$1" "$2"; sync "$2"';

const execute = promisify(execFile);

/** Of a QCOW2 file on a web server. */
interface Source {
  url: string;
  sha256: string;
  sizeBytes: number;
}

/** The import of a QCOW2 image from a web server of this machine, beside curl and qemu-img from the same one to the same disk. */
export async function measureImport({ workspace, effort, say }: Bench): Promise<Result[]> {
  if (workspace.onImage)
    throw new Error(`${workspace.directory} cannot hold pools: set BENCH_DIR to an ext4, xfs or btrfs`);
  const sizeBytes = 2 * effort.fioBytes;
  say(`import: a QCOW2 image of ${formatBytes(sizeBytes)}`);
  const directory = await mkdtemp(path.join(workspace.directory, 'import-'));
  const servers: WebServer[] = [];
  try {
    const [big, small] = [sizeBytes, sizeBytes / fraction].map((bytes) => path.join(directory, `${bytes}.qcow2`));
    for (const [file, bytes] of [
      [big, sizeBytes],
      [small, sizeBytes / fraction],
    ] as const) {
      await makeImage(file ?? '', bytes);
      servers.push(await WebServer.start(file ?? ''));
    }
    const [source, smaller] = await Promise.all(servers.map((server) => server.source()));
    if (!source || !smaller) throw new Error('no image was made');
    return [...(await measureSpeed(directory, source, say)), ...(await measureMemory(directory, source, smaller))];
  } finally {
    for (const server of servers) server.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

async function measureSpeed(directory: string, source: Source, say: Bench['say']): Promise<Result[]> {
  const converts = await canConvert(directory, source).catch((error: unknown) => {
    say(`import: without qemu-img, which reads no URLs here: ${messageOf(error).split('\n').at(-2)}`);
    return false;
  });
  const ways: (() => Promise<Taken>)[] = [
    () => byShell(curlScript, directory, source),
    () => byImport(directory, source),
  ];
  if (converts) ways.push(() => byShell(qemuImgScript, directory, source));
  const [curl = [], ours = [], qemuImg = []] = await interleave(rounds, ways);
  const speeds = (each: Taken[]) => each.map(({ seconds }) => source.sizeBytes / 1e6 / seconds);
  const costs = (each: Taken[]) => each.map(({ cpuSeconds }) => (cpuSeconds * GiB) / source.sizeBytes);
  const results = [
    medianResult('curl and sha256sum over HTTP, flushed', 'MB/s', speeds(curl)),
    medianResult('import with checksum, flushed', 'MB/s', speeds(ours)),
    medianResult('import / curl and sha256sum', 'ratio', ratios(speeds(ours), speeds(curl)), { atLeast: 0.7 }),
    medianResult('processor time of curl, tee and sha256sum', 's/GiB', costs(curl)),
    medianResult('processor time of an import', 's/GiB', costs(ours)),
  ];
  if (!converts) return results;
  const what = 'qemu-img convert from the URL, no checksum, flushed';
  return [...results, medianResult(what, 'MB/s', speeds(qemuImg))];
}

async function measureMemory(directory: string, big: Source, small: Source): Promise<Result[]> {
  const figures = await interleave(3, [() => byImport(directory, big), () => byImport(directory, small)]);
  const [ofBig = [], ofSmall = []] = figures.map((each) => each.map(({ peak }) => peak));
  const before = figures.flat().map((each) => each.before);
  return [
    medianResult('memory of the process before an import', 'MB', before),
    medianResult(`memory at the peak, ${formatBytes(big.sizeBytes)}`, 'MB', ofBig),
    medianResult(`memory at the peak, ${formatBytes(small.sizeBytes)}`, 'MB', ofSmall),
    medianResult('memory at the peak, big / small', 'ratio', ratios(ofBig, ofSmall), { atMost: 1.25 }),
  ];
}

/** What a way to get the image took. */
interface Taken {
  seconds: number;
  cpuSeconds: number;
}

/** @param script gets the URL, the file to make, and the checksum */
async function byShell(script: string, directory: string, { url, sha256 }: Source): Promise<Taken> {
  const copy = path.join(directory, 'copy');
  const timed = `TIMEFORMAT='%R %U %S'; time { ${script}; }`;
  const { stderr } = await execute('bash', ['-euo', 'pipefail', '-c', timed, 'bash', url, copy, sha256], {
    timeout: 300_000,
  });
  await rm(copy);
  // The last line; tools may have said something before it.
  const [seconds = Number.NaN, user = 0, system = 0] = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  if (Number.isNaN(seconds)) throw new Error(`no times in: ${stderr}`);
  return { seconds, cpuSeconds: user + system };
}

/** QEMU's block driver for URLs is a package of its own. @throws with its words where it is not there */
async function canConvert(directory: string, { url }: Source): Promise<boolean> {
  await execute('qemu-img', ['info', url], { cwd: directory });
  return true;
}

/** As bin/lamina has it. */
const heap = ['--max-semi-space-size=1', '--max-old-space-size=160'];
let pools = 0;

async function byImport(directory: string, { url, sha256 }: Source): Promise<ImportFigures> {
  const pool = path.join(directory, `pool-${++pools}`);
  await mkdir(pool);
  const fixture = path.join(import.meta.dirname, '../../fixtures/timed-import.ts');
  const { stdout } = await execute(process.execPath, [...heap, fixture, pool, url, sha256]);
  await rm(pool, { recursive: true });
  return JSON.parse(stdout) as ImportFigures;
}

/** Data that nothing can compress, in a file that needs no conversion. */
async function makeImage(file: string, sizeBytes: number): Promise<void> {
  const raw = `${file}.raw`;
  const handle = await open(raw, 'w');
  const data = Buffer.alloc(MiB);
  for (let at = 0; at < sizeBytes; at += data.length) await handle.write(randomFillSync(data), 0, data.length, at);
  await handle.close();
  await execute('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, file]);
  await rm(raw);
}

/** A process that serves one file. */
class WebServer {
  readonly #file: string;
  readonly #port: number;
  readonly stop: () => void;

  static async start(file: string): Promise<WebServer> {
    const fixture = path.join(import.meta.dirname, '../../fixtures/range-server.ts');
    const child = spawn(process.execPath, [fixture, file], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [port] = (await once(child.stdout, 'data')) as [Buffer];
    return new WebServer(file, Number(port.toString()), () => child.kill());
  }

  private constructor(file: string, port: number, stop: () => void) {
    this.#file = file;
    this.#port = port;
    this.stop = stop;
  }

  async source(): Promise<Source> {
    const hash = createHash('sha256');
    await pipeline(createReadStream(this.#file), hash);
    const { size: sizeBytes } = await stat(this.#file);
    return { url: `http://127.0.0.1:${this.#port}/image.qcow2`, sha256: hash.digest('hex'), sizeBytes };
  }
}
