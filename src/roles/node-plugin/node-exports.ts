import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { DiskPool } from '../../api/objects.ts';
import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/logger.ts';
import { TokenBucket } from '../../lib/token-bucket.ts';
import { parsePortAddress } from '../../telemetry/listen-address.ts';
import type { Credentials } from '../../transfer/identity/credentials.ts';
import { ExportCache } from '../../transfer/users/export-cache.ts';
import { memberName } from '../../transfer/identity/identity-names.ts';
import { UserServer, type UserServerOptions } from '../../transfer/users/user-server.ts';

export interface NodeExportsOptions extends Pick<UserServerOptions, 'authorize' | 'findExport' | 'findSink' | 'begin'> {
  nodeName: string;
  /** Where people export and upload, and what they are told; null for not at all. */
  listen: string | null;
  address: string | null;
  /** Where `kubectl port-forward` finds it. */
  pod: { namespace: string; name: string } | null;
  /** Bytes per second for all exports. */
  rate: number;
  runDir: string;
  /** Called when people can export from here, or by another certificate, and are to be told. */
  onServing: () => void;
  clock: Clock;
  logger: Logger;
}

/** Gives what the pools of this node hold to people who may have it, and takes their uploads. */
export class NodeExports {
  readonly #options: NodeExportsOptions;
  readonly #exports: ExportCache;
  #server: UserServer | undefined;
  #certificateAuthority = '';

  constructor(options: NodeExportsOptions) {
    this.#options = options;
    this.#exports = new ExportCache(this.#directory, options.clock);
  }

  get isEnabled(): boolean {
    return this.#options.listen !== null;
  }

  /** What the DiskPools of this node say of it; null where nobody answers, or not yet. */
  get report(): NonNullable<DiskPool['status']['export']> | null {
    const { nodeName, address, pod } = this.#options;
    if (!this.#server || address === null) return null;
    return {
      address,
      serverName: memberName('node', nodeName),
      certificateAuthority: this.#certificateAuthority,
      ...(pod ? { podNamespace: pod.namespace, podName: pod.name } : {}),
    };
  }

  /** Answers from now on by the certificate by which other nodes know this one. */
  async serve({ certificate, key, authorities }: Credentials): Promise<void> {
    const { listen, rate, clock, onServing } = this.#options;
    if (listen === null) return;
    this.#certificateAuthority = authorities.join('');
    if (this.#server) this.#server.replaceCertificate({ certificate, key });
    else {
      const address = parsePortAddress(listen, `--export-listen ${listen}`);
      // What an earlier process has left is of no use.
      await rm(this.#directory, { recursive: true, force: true });
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      const limit = new TokenBucket(rate, clock);
      const server = new UserServer({
        ...this.#options,
        certificate: { certificate, key },
        exports: this.#exports,
        limit,
      });
      await server.listen(address.port, address.host);
      this.#server = server;
    }
    onServing();
  }

  /** Breaks off what is being sent and taken. */
  async close(): Promise<void> {
    await this.#server?.close();
    await this.#exports.close();
  }

  get #directory(): string {
    return path.join(this.#options.runDir, 'exports');
  }
}
