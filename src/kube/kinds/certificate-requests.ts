import { z } from 'zod';
import { metadataSchema } from './core-kinds.ts';
import type { KubeObject } from '../objects.ts';
import type { ResourceType } from '../client/resource-type.ts';

const schema = z.object({
  metadata: metadataSchema,
  spec: z.object({
    signerName: z.string(),
    request: z.string(),
    usages: z.array(z.string()).nullish(),
    username: z.string().nullish(),
    extra: z.record(z.string(), z.array(z.string())).nullish(),
  }),
  status: z
    .object({
      certificate: z.string().nullish(),
      conditions: z.array(z.object({ type: z.string(), message: z.string().nullish() })).nullish(),
    })
    .nullish(),
});

/** A CertificateSigningRequest: who asked, as the API server attests it, and what came of it. */
export interface CertificateSigningRequest extends KubeObject {
  signerName: string;
  /** PEM. */
  request: string;
  usages: string[];
  username: string;
  extra: Record<string, string[]>;
  /** PEM; undefined until it is signed. */
  certificate: string | undefined;
  isApproved: boolean;
  /** Why it is not signed. */
  refusal: string | undefined;
}

export const certificateSigningRequestType: ResourceType<CertificateSigningRequest> = {
  group: 'certificates.k8s.io',
  version: 'v1',
  kind: 'CertificateSigningRequest',
  plural: 'certificatesigningrequests',
  namespaced: false,
  parse: (json) => {
    const { metadata, spec, status } = schema.parse(json);
    const conditions = status?.conditions ?? [];
    const refused = conditions.find(({ type }) => type === 'Denied' || type === 'Failed');
    return {
      metadata,
      signerName: spec.signerName,
      request: decoded(spec.request),
      usages: spec.usages ?? [],
      username: spec.username ?? '',
      extra: spec.extra ?? {},
      certificate: status?.certificate ? decoded(status.certificate) : undefined,
      isApproved: conditions.some(({ type }) => type === 'Approved'),
      refusal: refused && (refused.message ?? refused.type),
    };
  },
};

function decoded(base64: string): string {
  return Buffer.from(base64, 'base64').toString();
}
