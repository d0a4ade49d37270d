import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { pollUntil } from '../../src/lib/poll.ts';
import type { Testbed } from './testbed.ts';

const timeoutMs = 180_000;
/** Of the API server, of etcd, and of etcd for its peers, one after the other. */
export const controlPlanePorts = 3;

/** etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback; pods are scheduled, and never run. */
export class ControlPlane {
  readonly kubeconfig: string;
  readonly #testbed: Testbed;
  readonly #directory: string;
  readonly #env: Record<string, string>;

  /** @param directory where everything of it is kept. @param port the first of `controlPlanePorts` free ones */
  constructor(testbed: Testbed, directory: string, port: number) {
    this.#testbed = testbed;
    this.#env = { TESTBED_RUN: directory, TESTBED_CP_NAME: 'cp', TESTBED_CP_PORT: String(port) };
    this.#directory = path.join(directory, 'control-plane/cp');
    this.kubeconfig = path.join(this.#directory, 'kubeconfig');
  }

  /** Starts it with the definitions of snapshots, unless it runs. */
  async start(): Promise<void> {
    await this.#run('start');
  }

  /** Ends it and forgets all that was stored. */
  async stop(): Promise<void> {
    await this.#run('stop');
  }

  /** Makes a Node that is ready for ever, as if kubelet ran there and the driver were registered with it. */
  async addNode(name: string, driver: string, topologyKey: string): Promise<void> {
    await this.#run('node', name, driver, topologyKey);
  }

  /** Kills the API server; what is stored stays. */
  async killApiServer(): Promise<void> {
    const pid = Number(readFileSync(this.#at('kube-apiserver.pid'), 'utf8'));
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    writeFileSync(this.#at('kube-apiserver.command'), command);
    process.kill(pid, 'SIGKILL');
    // What nobody has collected yet has no program any more.
    const isGone = () => !existsSync(`/proc/${pid}/exe`);
    if (!(await pollUntil(isGone, { timeoutMs, intervalMs: 10 }))) throw new Error('the API server does not end');
  }

  /** Starts the API server as it was started before it was killed, and waits until it is ready. */
  async startApiServer(isReady: () => Promise<boolean>): Promise<void> {
    const [file = '', ...args] = readFileSync(this.#at('kube-apiserver.command'), 'utf8').split('\0').slice(0, -1);
    const log = openSync(this.#at('kube-apiserver.log'), 'a');
    const child = spawn(file, args, { detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    await once(child, 'spawn');
    child.unref();
    writeFileSync(this.#at('kube-apiserver.pid'), String(child.pid));
    if (!(await pollUntil(isReady, { timeoutMs, intervalMs: 100 }))) throw new Error('the API server is not ready');
  }

  get logs(): string[] {
    return ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'].map((name) =>
      this.#at(`${name}.log`),
    );
  }

  async #run(...args: readonly string[]): Promise<void> {
    const env = { ...process.env, ...this.#env };
    try {
      await promisify(execFile)(this.#testbed.controlPlane, args, { env, timeout: timeoutMs });
    } catch (error) {
      const { stderr, signal } = error as { stderr: string; signal: string | null };
      const words = stderr.trim().replaceAll('\n', ' | ');
      throw new Error(`control-plane ${args.join(' ')} failed${signal ? ` by ${signal}` : ''}: ${words}`, {
        cause: error,
      });
    }
  }

  #at(name: string): string {
    return path.join(this.#directory, name);
  }
}
