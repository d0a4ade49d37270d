import { spawn } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { GiB, KiB, MiB } from '../../../src/lib/bytes.ts';
import { run } from '../../../src/lib/exec.ts';
import { memberName } from '../../../src/transfer/identity/identity-names.ts';
import { fetchSnapshot } from '../../transfer-node.ts';
import { createDisk, type NodeProcess, TransferScene } from '../../transfer-scene.ts';
import { type Bench, interleave } from '../bench.ts';
import { fio } from '../fio.ts';
import { medianResult, type Result } from '../results.ts';
import { ratios } from '../statistics.ts';

const timeoutMs = 600_000;
const limitedBytesPerSecond = 64 * MiB;
const rounds = 5;

/** A layer sent to another node, beside a plain copy of its file by curl through the same network to the same disk. */
export async function measureTransfer(bench: Bench): Promise<Result[]> {
  const { workspace, effort, say } = bench;
  if (workspace.onImage)
    throw new Error(`${workspace.directory} cannot hold pools: set BENCH_DIR to an ext4, xfs or btrfs`);
  const sizeBytes = 2 * effort.fioBytes;
  say(`transfer: a layer of ${sizeBytes / GiB} GiB`);
  const scene = await TransferScene.create(await mkdtemp(path.join(workspace.directory, 'transfer-')));
  try {
    const file = await makeSnapshot(scene, sizeBytes);
    return [...(await measureBesidePlain(scene, file, sizeBytes)), ...(await measureNeighbour(bench, scene))];
  } finally {
    await scene.close();
    await rm(scene.directory, { recursive: true, force: true });
  }
}

async function measureBesidePlain(scene: TransferScene, file: string, sizeBytes: number): Promise<Result[]> {
  const plain = await PlainServer.start(scene, file);
  const sender = await scene.startNode('source');
  try {
    const seconds = await interleave(rounds, [() => plain.copy(), () => transfer(scene, sender)]);
    const [copied = [], transferred = []] = seconds.map((each) => each.map((value) => sizeBytes / 1e6 / value));
    return [
      medianResult('plain copy by curl over HTTPS, flushed', 'MB/s', copied),
      medianResult('layer transfer, flushed', 'MB/s', transferred),
      medianResult('layer transfer / plain copy', 'ratio', ratios(transferred, copied), { atLeast: 0.7 }),
    ];
  } finally {
    plain.stop();
    await sender.kill();
  }
}

/** Data that nothing can compress. @returns the layer's file */
async function makeSnapshot(scene: TransferScene, sizeBytes: number): Promise<string> {
  const node = await scene.addNode('source');
  await createDisk(node, 'disk', sizeBytes);
  const { head } = node.pool.disk('disk');
  const file = node.pool.chainLayer(head).path;
  const raw = path.join(scene.directory, 'raw');
  await writeRandom(raw, sizeBytes);
  await run('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'qcow2', raw, file], { timeoutMs });
  await rm(raw);
  await node.disks.createSnapshot({ name: 'snapshot', diskId: 'disk' });
  await scene.removeNode(node);
  return file;
}

async function writeRandom(file: string, sizeBytes: number): Promise<void> {
  const handle = await open(file, 'w');
  const data = Buffer.alloc(MiB);
  for (let at = 0; at < sizeBytes; at += data.length) await handle.write(randomFillSync(data), 0, data.length, at);
  await handle.close();
}

let targets = 0;

/** @returns how long it took, in seconds */
async function transfer(scene: TransferScene, sender: NodeProcess): Promise<number> {
  const target = await scene.addNode(`target-${++targets}`);
  const start = performance.now();
  await fetchSnapshot(sender.peer, target, 'snapshot');
  const seconds = (performance.now() - start) / 1000;
  await scene.removeNode(target);
  await rm(target.directory, { recursive: true });
  return seconds;
}

class PlainServer {
  readonly #directory: string;
  readonly #port: number;
  readonly stop: () => void;

  static async start(scene: TransferScene, file: string): Promise<PlainServer> {
    const credentials = path.join(scene.directory, 'plain.json');
    writeFileSync(credentials, JSON.stringify(await scene.credentials('plain')));
    await writeFile(path.join(scene.directory, 'ca.pem'), scene.authority.certificate);
    const fixture = path.join(import.meta.dirname, '../../fixtures/file-server.ts');
    const child = spawn(process.execPath, [fixture, credentials, file], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [port] = (await once(child.stdout, 'data')) as [Buffer];
    return new PlainServer(scene.directory, Number(port.toString()), () => child.kill());
  }

  private constructor(directory: string, port: number, stop: () => void) {
    this.#directory = directory;
    this.#port = port;
    this.stop = stop;
  }

  /** @returns how long it took, in seconds */
  async copy(): Promise<number> {
    const host = memberName('node', 'plain');
    const [authority, copy] = ['ca.pem', 'copy'].map((name) => path.join(this.#directory, name)) as [string, string];
    const trust = ['--cacert', authority, '--connect-to', `${host}:443:127.0.0.1:${this.#port}`];
    const start = performance.now();
    await run('curl', ['-sSf', ...trust, '-o', copy, `https://${host}/`], { timeoutMs });
    await run('sync', [copy], { timeoutMs });
    const seconds = (performance.now() - start) / 1000;
    await rm(copy);
    return seconds;
  }
}

/** What a transfer at a limited rate leaves to somebody who reads from the same disk. */
async function measureNeighbour({ effort }: Bench, scene: TransferScene): Promise<Result[]> {
  const file = path.join(scene.directory, 'neighbour');
  await fio({ file, pattern: 'write', blockBytes: MiB, queueDepth: 8, sizeBytes: effort.fioBytes });
  const read = async () => {
    const job = { file, pattern: 'randread', blockBytes: 4 * KiB, queueDepth: 8 } as const;
    return (await fio({ ...job, sizeBytes: effort.fioBytes, seconds: effort.fioSeconds })).iops;
  };
  const limited = await scene.startNode('source', { sendBytesPerSecond: limitedBytesPerSecond });
  const beside = async () => {
    const target = await scene.addNode(`target-${++targets}`);
    const controller = new AbortController();
    const fetched = fetchSnapshot(limited.peer, target, 'snapshot', { signal: controller.signal });
    const iops = await read();
    controller.abort();
    await fetched.catch(() => {});
    await scene.removeNode(target);
    await rm(target.directory, { recursive: true });
    return iops;
  };
  const [alone = [], shared = []] = await interleave(rounds, [read, beside]);
  const what = `4k randread qd8 beside a transfer of ${limitedBytesPerSecond / MiB} MiB/s`;
  return [medianResult(`${what} / alone`, 'ratio', ratios(shared, alone))];
}
