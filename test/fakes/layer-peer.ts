import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { ChainDescription, LayerDescription } from '../../src/transfer/layers/chain-description.ts';
import { type Credentials, tlsOptions } from '../../src/transfer/identity/credentials.ts';
import {
  type Frame,
  frameDigest,
  maxDataBytes,
  newFrame,
  newFramePool,
} from '../../src/transfer/layers/layer-frames.ts';
import type { Peer } from '../../src/transfer/layers/peer.ts';

type Answer = (response: ServerResponse, request: IncomingMessage) => void | Promise<void>;

/** A node with a good certificate, which answers what a test tells it to. */
export class LayerPeer {
  readonly peer: Peer;
  readonly #server: Server;
  /** Paths that were asked for. */
  readonly asked: string[] = [];
  describe: Answer = (response) => void response.writeHead(404).end();
  layer: Answer = (response) => void response.writeHead(404).end();

  static async start(name: string, credentials: Credentials): Promise<LayerPeer> {
    const server = createServer({ ...tlsOptions(credentials), requestCert: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new LayerPeer({ node: name, address: `127.0.0.1:${(server.address() as AddressInfo).port}` }, server);
  }

  private constructor(peer: Peer, server: Server) {
    this.peer = peer;
    this.#server = server;
    server.on('request', (request, response) => {
      this.asked.push(request.url ?? '');
      void (request.url?.includes('/layers/') ? this.layer : this.describe)(response, request);
    });
  }

  /** Describes a snapshot of these layers. */
  describes(layers: readonly LayerDescription[], change: Partial<ChainDescription> = {}): void {
    const sizeBytes = layers[0]?.virtualSizeBytes ?? 0;
    const chain = {
      version: 1,
      kind: 'snapshot',
      id: 's',
      name: 's',
      sizeBytes,
      filesystem: null,
      digest: null,
      layers,
    };
    this.describe = (response) => void response.end(JSON.stringify({ ...chain, ...change }));
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }
}

const pool = newFramePool();

export function frameBytes(kind: Frame['kind'], offset: number, data: Buffer): Buffer {
  const frame = newFrame(pool, kind, offset, data.length);
  data.copy(frame.data);
  return Buffer.concat([frameDigest(frame), frame.body]);
}

/** A file as a node sends it. */
export function framedFile(file: Buffer): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < file.length; at += maxDataBytes)
    frames.push(frameBytes('data', at, file.subarray(at, at + maxDataBytes)));
  return Buffer.concat([...frames, frameBytes('end', file.length, Buffer.alloc(0))]);
}
