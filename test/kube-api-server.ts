import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { access, constants, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Connection } from '../src/kube/client/connection.ts';
import { pollUntil } from '../src/lib/poll.ts';
import { freePort } from './free-port.ts';

export interface ApiAnswer {
  status: number;
  /** Of the `Warning` headers, which kubectl shows. */
  warnings: string[];
  body: unknown;
}

interface Programs {
  etcd: string;
  'kube-apiserver': string;
}

/** etcd and kube-apiserver of PATH or of the cache of a test machine, or what is missing. */
export async function findApiServer(): Promise<Programs | { missing: string }> {
  const cache = path.join(process.env['TESTBED_CACHE'] ?? '/var/cache/testbed', 'bin');
  const versions = await readdir(cache).catch(() => []);
  const directories = [
    ...(process.env['PATH'] ?? '').split(':'),
    ...versions.toSorted().map((version) => path.join(cache, version)),
  ];
  const etcd = await findProgram(directories, 'etcd');
  const apiServer = await findProgram(directories, 'kube-apiserver');
  if (etcd && apiServer) return { etcd, 'kube-apiserver': apiServer };
  const missing = [etcd ? [] : 'etcd', apiServer ? [] : 'kube-apiserver'].flat().join(' and ');
  return { missing: `no ${missing} in PATH or below ${cache}` };
}

async function findProgram(directories: readonly string[], name: string): Promise<string | undefined> {
  for (const directory of directories) {
    const file = path.join(directory, name);
    const found = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return file;
  }
  return undefined;
}

/** An API server on loopback with an etcd of its own, and nothing else: objects are stored and checked, no more. */
export class KubeApiServer {
  readonly port: number;
  readonly #directory: string;
  readonly #token: string;
  readonly #processes: ChildProcess[] = [];
  #certificate = '';
  #startAgain: () => Promise<void> = async () => {};

  private constructor(directory: string, port: number) {
    this.#directory = directory;
    this.port = port;
    this.#token = randomBytes(16).toString('hex');
  }

  static async start(programs: Programs): Promise<KubeApiServer> {
    const port = await freePort(3);
    const [etcdPort, peerPort] = [port + 1, port + 2];
    const server = new KubeApiServer(await mkdtemp(path.join(tmpdir(), 'lamina-kube-')), port);
    try {
      await server.#startEtcd(programs.etcd, etcdPort, peerPort);
      server.#startAgain = () => server.#startApiServer(programs['kube-apiserver'], etcdPort);
      await server.#startAgain();
      await server.#untilReady();
      return server;
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  /** Sends an object, or nothing, as JSON; any answer is one. */
  async send(
    method: string,
    requestPath: string,
    options: { body?: unknown; contentType?: string; accept?: string } = {},
  ): Promise<ApiAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<ApiAnswer>();
    const headers = {
      authorization: `Bearer ${this.#token}`,
      'content-type': options.contentType ?? 'application/json',
      accept: options.accept ?? 'application/json',
    };
    const target = { host: '127.0.0.1', port: this.port, path: requestPath, method, headers, ca: this.#certificate };
    const outgoing = request({ ...target, agent: false, timeout: 30_000 }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const isJson = response.headers['content-type']?.includes('json') ?? false;
        const warnings = [response.headers['warning'] ?? []].flat();
        resolve({ status: response.statusCode ?? 0, warnings, body: isJson ? JSON.parse(text) : text });
      });
    });
    outgoing.on('error', reject);
    outgoing.on('timeout', () => outgoing.destroy(new Error(`${method} ${requestPath}: no answer`)));
    outgoing.end(options.body === undefined ? undefined : JSON.stringify(options.body));
    return promise;
  }

  /** How to reach it, as an administrator. */
  get connection(): Connection {
    const server = new URL(`https://127.0.0.1:${this.port}`);
    return { server, certificateAuthority: this.#certificate, token: this.#token, namespace: 'default' };
  }

  /** Kills the API server, and starts it again on the same port; etcd goes on. */
  async restart(): Promise<void> {
    const apiServer = this.#processes.pop();
    if (apiServer) await kill(apiServer);
    await this.#startAgain();
    await this.#untilReady();
  }

  /** Ends both processes and removes all of their files. */
  async stop(): Promise<void> {
    for (const child of this.#processes.toReversed()) await kill(child);
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #startEtcd(program: string, clientPort: number, peerPort: number): Promise<void> {
    const client = `http://127.0.0.1:${clientPort}`;
    const peer = `http://127.0.0.1:${peerPort}`;
    // What is thrown away need not be synced.
    await this.#run(
      program,
      ['--data-dir', this.#at('etcd'), '--unsafe-no-fsync', '--log-level', 'warn'].concat(
        ['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', peer],
        ['--initial-advertise-peer-urls', peer, '--initial-cluster', `default=${peer}`],
      ),
    );
  }

  async #startApiServer(program: string, etcdPort: number): Promise<void> {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    await writeFile(this.#at('sa.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }), { mode: 0o600 });
    await writeFile(this.#at('tokens.csv'), `${this.#token},admin,admin,system:masters\n`, { mode: 0o600 });
    await this.#run(
      program,
      ['--etcd-servers', `http://127.0.0.1:${etcdPort}`, '--bind-address', '127.0.0.1'].concat(
        ['--advertise-address', '127.0.0.1', '--secure-port', String(this.port), '--cert-dir', this.#at('pki')],
        ['--token-auth-file', this.#at('tokens.csv'), '--authorization-mode', 'RBAC'],
        ['--service-account-issuer', 'https://kubernetes.default.svc', '--service-cluster-ip-range', '10.0.0.0/24'],
        ['--service-account-key-file', this.#at('sa.key'), '--service-account-signing-key-file', this.#at('sa.key')],
      ),
    );
  }

  async #run(program: string, args: readonly string[]): Promise<void> {
    const log = await open(this.#at(`${path.basename(program)}.log`), 'a');
    // Ends with this process, whatever becomes of it.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], {
      stdio: ['ignore', log.fd, log.fd],
    });
    this.#processes.push(child);
    await once(child, 'spawn');
    await log.close();
  }

  async #untilReady(): Promise<void> {
    const isUp = async () => {
      if (this.#processes.some((child) => child.exitCode !== null)) return true;
      // The API server makes it at its first start; the file holds its issuer, too.
      this.#certificate = await readFile(this.#at('pki/apiserver.crt'), 'utf8').catch(() => '');
      if (!this.#certificate) return false;
      const answers = await Promise.all(
        ['/readyz', '/api/v1/namespaces/default'].map((where) => this.send('GET', where).catch(() => null)),
      );
      return answers.every((answer) => answer?.status === 200);
    };
    const up = await pollUntil(isUp, { timeoutMs: 120_000, intervalMs: 100 });
    if (up && this.#processes.every((child) => child.exitCode === null)) return;
    const logs = ['etcd.log', 'kube-apiserver.log'].map((name) => readFile(this.#at(name), 'utf8').catch(() => ''));
    const words = (await Promise.all(logs)).map((log) => log.trim().split('\n').slice(-5).join('\n'));
    throw new Error(`the API server does not come up:\n${words.join('\n')}`);
  }

  #at(name: string): string {
    return path.join(this.#directory, name);
  }
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
