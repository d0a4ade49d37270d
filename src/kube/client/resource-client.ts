import { isObjectMissing } from './api-error.ts';
import type { KubeClient } from './client.ts';
import { listPages } from './list.ts';
import type { KubeObject, Manifest, ObjectRef } from '../objects.ts';
import { apiVersionOf, collectionPath, decodeObject, objectPath, type ResourceType } from './resource-type.ts';

export interface CallOptions {
  signal?: AbortSignal | undefined;
}

export interface ListOptions extends CallOptions {
  namespace?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
}

export interface PatchOptions extends CallOptions {
  subresource?: 'status' | 'approval' | undefined;
}

export interface ApplyOptions extends PatchOptions {
  /** Who owns the fields. */
  fieldManager: string;
  /** Take fields over that others own; otherwise that is a conflict. */
  force?: boolean;
}

export interface DeleteOptions extends CallOptions {
  /** Only this very object, not one of the same name that was made since. */
  uid?: string | undefined;
  /** Only the object as it was in that version. */
  resourceVersion?: string | undefined;
  propagationPolicy?: 'Background' | 'Foreground' | 'Orphan';
}

/** The objects of one type on an API server. All methods throw what KubeClient's `request` does, and `resource-invalid`. */
export class ResourceClient<T extends KubeObject> {
  readonly type: ResourceType<T>;
  readonly #client: KubeClient;

  constructor(client: KubeClient, type: ResourceType<T>) {
    this.#client = client;
    this.type = type;
  }

  /** The object as it is now, or undefined where it is not there. Where the type is not there, that is an error. */
  async get(ref: ObjectRef, { signal }: CallOptions = {}): Promise<T | undefined> {
    const path = objectPath(this.type, ref);
    return this.#unlessMissing(ref, async () =>
      this.#decode(await this.#client.request({ method: 'GET', path, signal })),
    );
  }

  /** All objects, read page by page. */
  async list({ signal, namespace, ...selectors }: ListOptions = {}): Promise<T[]> {
    const path = collectionPath(this.type, namespace);
    const objects: T[] = [];
    for await (const page of listPages({ client: this.#client, path, selectors, signal })) {
      if (page.isFirst) objects.length = 0;
      objects.push(...page.items.map((item) => this.#decode(item)));
    }
    return objects;
  }

  /** @throws ApiError, with isAlreadyExists where there is an object of that name */
  async create(manifest: Manifest, { signal }: CallOptions = {}): Promise<T> {
    const path = collectionPath(this.type, manifest.metadata.namespace);
    return this.#decode(await this.#client.request({ method: 'POST', path, body: this.#identified(manifest), signal }));
  }

  /** Replaces the whole object. @throws ApiError, with isConflict where it is not the one of that resourceVersion any more */
  async replace(manifest: Manifest, { signal, subresource }: PatchOptions = {}): Promise<T> {
    const path = objectPath(this.type, manifest.metadata, subresource);
    return this.#decode(await this.#client.request({ method: 'PUT', path, body: this.#identified(manifest), signal }));
  }

  /** Sends a JSON merge patch (RFC 7386). */
  async mergePatch(ref: ObjectRef, patch: object, { signal, subresource }: PatchOptions = {}): Promise<T> {
    const path = objectPath(this.type, ref, subresource);
    const contentType = 'application/merge-patch+json';
    return this.#decode(await this.#client.request({ method: 'PATCH', path, body: patch, contentType, signal }));
  }

  /** Sends a server-side apply; makes the object where it is not there, unless it is a subresource's. */
  async apply(manifest: Manifest, { signal, subresource, fieldManager, force = false }: ApplyOptions): Promise<T> {
    const path = objectPath(this.type, manifest.metadata, subresource);
    const answer = await this.#client.request({
      method: 'PATCH',
      path,
      query: { fieldManager, force },
      body: this.#identified(manifest),
      contentType: 'application/apply-patch+yaml',
      signal,
    });
    return this.#decode(answer);
  }

  /** Deletes the object, as far as its finalizers let it; fine where it is not there. @throws ApiError, with isConflict where it has another uid or version */
  async removeIfPresent(ref: ObjectRef, options: DeleteOptions = {}): Promise<void> {
    const { signal, uid, resourceVersion, propagationPolicy } = options;
    const path = objectPath(this.type, ref);
    const preconditions = uid || resourceVersion ? { uid, resourceVersion } : undefined;
    const body = { kind: 'DeleteOptions', apiVersion: 'v1', propagationPolicy, preconditions };
    await this.#unlessMissing(ref, () => this.#client.request({ method: 'DELETE', path, body, signal }));
  }

  #decode(json: unknown): T {
    return decodeObject(this.type, json);
  }

  #identified(manifest: Manifest): object {
    return { ...manifest, apiVersion: apiVersionOf(this.type), kind: this.type.kind };
  }

  async #unlessMissing<R>(ref: ObjectRef, call: () => Promise<R>): Promise<R | undefined> {
    try {
      return await call();
    } catch (error) {
      if (isObjectMissing(error, ref.name)) return undefined;
      throw error;
    }
  }
}
