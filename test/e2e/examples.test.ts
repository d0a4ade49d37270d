import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { conditionOf, isReady, type Kubectl, type KubernetesObject } from './kubectl.ts';
import { root } from './machine.ts';
import { toolsImage } from './objects.ts';
import { stories } from './stories.ts';

const directory = path.join(root, 'examples');

/** Files by the scenes that they make, in the order in which a user applies them. */
const scenes: [string, ...string[]][] = [
  ['first-volume', 'snapshot', 'restore', 'clone', 'golden-image', 'image-copies'],
  ['block-volume'],
  ['preallocated'],
  ['stateful-set'],
  ['volume-attributes-class'],
  ['ephemeral-volume'],
  ['disk-image'],
];

/** When an object of a kind is as its user wants it; objects of other kinds are so at once. */
const isRight: Record<string, (object: KubernetesObject) => boolean> = {
  Pod: isReady,
  DiskImage: (image) => isReady(image) && (!image.spec.nodeSelector || conditionOf(image, 'Copied')?.status === 'True'),
  PersistentVolumeClaim: ({ spec, status }) =>
    status?.phase === 'Bound' && spec.volumeAttributesClassName === status.currentVolumeAttributesClassName,
  VolumeSnapshot: ({ status }) => status?.readyToUse === true,
  StatefulSet: ({ spec, status }) => status?.readyReplicas === spec.replicas,
};

/** The example as it is, but for the image of its pods, which the nodes have. */
async function example(name: string): Promise<string> {
  return (await readFile(path.join(directory, `${name}.yaml`), 'utf8')).replaceAll('busybox:1.37', toolsImage);
}

async function untilRight(kubectl: Kubectl, manifest: string): Promise<void> {
  for (const document of parseAllDocuments(manifest)) {
    const { kind, metadata } = document.toJS() as KubernetesObject;
    const check = isRight[kind];
    if (check) await kubectl.untilObject(kind, metadata.name, check);
  }
}

stories('the examples', (scene) => {
  it('are all told', async () => {
    const files = (await readdir(directory)).filter((file) => file.endsWith('.yaml'));
    expect(files.toSorted()).toEqual(
      scenes
        .flat()
        .map((name) => `${name}.yaml`)
        .toSorted(),
    );
  });

  it.each(scenes)('%s', { timeout: 600_000 }, async (...names) => {
    const { kubectl } = scene();
    const manifests = await Promise.all(names.map((name) => example(name)));
    try {
      for (const manifest of manifests) {
        await kubectl.apply(manifest);
        await untilRight(kubectl, manifest);
      }
      if (names.includes('restore')) {
        const written = await kubectl.inPod('first', 'cat /data/log');
        expect(written).not.toBe('');
        for (const pod of ['restored', 'clone', 'from-golden'])
          expect(await kubectl.inPod(pod, 'cat /data/log')).toBe(written);
      }
    } finally {
      // Some of it is in no namespace. All at once, in the order of the files: a source before what was made of it.
      const input = manifests.join('\n---\n');
      const args = ['delete', '-f', '-', '--ignore-not-found', '--wait', '--timeout=180s'];
      await kubectl.run(args, { input, timeoutMs: 200_000 });
    }
  });
});
