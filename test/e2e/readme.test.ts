import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { expect, it } from 'vitest';
import { root } from './machine.ts';
import { stories } from './stories.ts';

/** The image of the examples; nodes do not reach a registry everywhere. */
const busybox = 'busybox:1.37';

/** The blocks of commands of the README's part on Kubernetes that come after the installation. */
async function blocksOfReadme(): Promise<string[]> {
  const text = await readFile(path.join(root, 'README.md'), 'utf8');
  const part = /\n## On Kubernetes\n(.*?)\n## /s.exec(text)?.[1] ?? '';
  const blocks = [...part.matchAll(/^```sh\n(.*?)^```/gms)].map((match) => match[1] ?? '');
  return blocks.slice(blocks.findIndex((block) => block.includes('helm install')) + 1);
}

stories('the README on Kubernetes', (scene) => {
  it('gives a first volume, a first snapshot and a restore, word for word', { timeout: 600_000 }, async () => {
    const { kubectl, cluster } = scene();
    const isHere = (await execa('docker', ['image', 'inspect', busybox], { reject: false })).exitCode === 0;
    if (!isHere) await execa('docker', ['pull', busybox]);
    await cluster.load(busybox);
    const blocks = await blocksOfReadme();
    expect(blocks.map((block) => /examples\/([a-z-]+)\.yaml/.exec(block)?.[1])).toEqual([
      'first-volume',
      'snapshot',
      'restore',
      'restore',
    ]);
    const directory = await mkdtemp(path.join(tmpdir(), 'lamina-readme-'));
    try {
      const KUBECONFIG = path.join(directory, 'kubeconfig');
      await copyFile(kubectl.kubeconfig, KUBECONFIG);
      const run = (script: string) => execa('bash', ['-euc', script], { cwd: root, env: { KUBECONFIG } });
      await run(`kubectl config set-context --current --namespace=${kubectl.namespace}`);
      const outputs: string[] = [];
      for (const block of blocks) outputs.push((await run(block)).stdout);
      const [first, , restored] = outputs.map((output) => output.split('\n').at(-1));
      expect(first).toMatch(/\d{4}$/);
      expect(restored).toBe(first);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
