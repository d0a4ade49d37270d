import { transferSignerName } from '../../api/names.ts';
import { type CertificateSigningRequest } from '../../kube/kinds/certificate-requests.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import type { Reflector } from '../../kube/cache/reflector.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Clock } from '../../lib/clock.ts';
import { isLaminaError, LaminaError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { certify, signingAuthority } from '../../transfer/identity/certificates.ts';
import type { TransferAuthorities } from './transfer-authorities.ts';

export interface CertificateSignerOptions {
  requests: ResourceClient<CertificateSigningRequest>;
  reflector: Reflector<CertificateSigningRequest>;
  authorities: TransferAuthorities;
  systemNamespace: string;
  clock: Clock;
  logger: Logger;
}

/** Nodes renew theirs after two thirds of it. */
export const certificateLifetimeMs = 24 * 3_600_000;
/** By then every node has a certificate that came with the newest authority. */
const settleMs = certificateLifetimeMs;
/** The ServiceAccount of the node plugin. */
const nodeAccount = 'lamina-node';
/** What the API server says of the token that a pod on a node was given. */
const nodeNameExtra = 'authentication.kubernetes.io/node-name';

/**
 * Signs the certificates by which nodes know each other: for the node that the API server says the asking pod runs on,
 * whatever the request itself says.
 */
export class CertificateSigner {
  readonly #options: CertificateSignerOptions;

  constructor(options: CertificateSignerOptions) {
    this.#options = options;
  }

  watch(controller: Controller): void {
    controller.watch(this.#options.reflector, (request) => (isOpen(request) ? [request.metadata.name] : []));
  }

  readonly reconcile = async (name: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { reflector, authorities, clock, logger } = this.#options;
    const request = reflector.cache.get(name);
    if (!request || !isOpen(request)) return 'done';
    try {
      const node = this.#askingNode(request);
      const all = await authorities.current(signal);
      const now = clock.now();
      const authority = signingAuthority(all, { now, settleMs });
      if (!authority) return 'done';
      const validity = { now, lifetimeMs: certificateLifetimeMs };
      const certificate = await certify(authority, request.request, { role: 'node', name: node }, validity);
      if (!request.isApproved) await this.#decide(request, 'Approved', `The API server attests node ${node}.`, signal);
      // All that are to be trusted come with it, so that they come to every node in time.
      const chain = [certificate, ...all.map((each) => each.certificate)].join('');
      const status = { certificate: Buffer.from(chain).toString('base64') };
      await this.#options.requests.mergePatch(request.metadata, { status }, { signal, subresource: 'status' });
      logger.info({ request: name, node }, 'signed the certificate of a node');
    } catch (error) {
      if (!isLaminaError(error, 'invalid-parameter')) throw error;
      logger.warn({ request: name, user: request.username, error: error.message }, 'denied a certificate');
      await this.#decide(request, 'Denied', error.message, signal);
    }
    return 'done';
  };

  /** @throws LaminaError `invalid-parameter` where it is no node plugin that asks, or it is not known on which node */
  #askingNode({ username, extra }: CertificateSigningRequest): string {
    const wanted = `system:serviceaccount:${this.#options.systemNamespace}:${nodeAccount}`;
    if (username !== wanted) {
      throw new LaminaError('invalid-parameter', `only ${wanted} gets certificates of ${transferSignerName}`);
    }
    const [node, ...more] = extra[nodeNameExtra] ?? [];
    if (node !== undefined && more.length === 0) return node;
    throw new LaminaError(
      'invalid-parameter',
      'the API server does not say on which node the pod runs that asks: that takes tokens bound to nodes, which Kubernetes has since 1.32',
    );
  }

  async #decide(
    { metadata }: CertificateSigningRequest,
    type: 'Approved' | 'Denied',
    message: string,
    signal: AbortSignal,
  ): Promise<void> {
    const condition = { type, status: 'True', reason: type === 'Approved' ? 'NodeAttested' : 'NotANode', message };
    const patch = { status: { conditions: [condition] } };
    await this.#options.requests.mergePatch(metadata, patch, { signal, subresource: 'approval' });
  }
}

function isOpen({ certificate, refusal }: CertificateSigningRequest): boolean {
  return certificate === undefined && refusal === undefined;
}
