import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { glob, readFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';

const root = path.resolve(import.meta.dirname, '../..');
const documents = ['*.md', 'docs/**/*.md', 'charts/**/*.md', 'examples/**/*.md', 'test/**/*.md'];

/** Targets of links, without those to other servers. Code is no text. */
function linksOf(markdown: string): string[] {
  const text = markdown.replaceAll(/^```[\s\S]*?^```/gm, '').replaceAll(/`[^`\n]*`/g, '');
  const targets = [...text.matchAll(/\]\(<?([^()\s>]+)>?\)/g)].map(([, target = '']) => target);
  return targets.filter((target) => !/^[a-z]+:/.test(target));
}

/** Names of the headings in links, as GitHub makes them. */
function anchorsOf(markdown: string): string[] {
  const text = markdown.replaceAll(/^```[\s\S]*?^```/gm, '');
  return [...text.matchAll(/^#+ +(.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  );
}

/** What is wrong with a link; undefined where it leads somewhere. */
function faultOf(file: string, link: string, texts: ReadonlyMap<string, string>): string | undefined {
  const [target = '', anchor] = link.split('#');
  const place = target === '' ? file : path.join(path.dirname(file), target);
  if (!existsSync(path.join(root, place))) return `${file}: there is no ${place}`;
  if (anchor === undefined || statSync(path.join(root, place)).isDirectory()) return undefined;
  const text = texts.get(place);
  if (text === undefined || anchorsOf(text).includes(anchor)) return undefined;
  return `${file}: ${place} has no heading ${anchor}`;
}

describe('the documents', () => {
  const texts = new Map<string, string>();

  beforeAll(async () => {
    const isOther = (name: string) => name === 'node_modules';
    for await (const file of glob(documents, { cwd: root, exclude: isOther })) {
      texts.set(file, await readFile(path.join(root, file), 'utf8'));
    }
  });

  it('are found, in each folder', () => {
    expect([...texts.keys()]).toEqual(
      expect.arrayContaining(['README.md', 'docs/README.md', 'docs/users/errors.md', 'charts/lamina/README.md']),
    );
  });

  it('have links that lead to a file, and to a heading where they name one', () => {
    const faults = [...texts].flatMap(([file, text]) => linksOf(text).map((link) => faultOf(file, link, texts)));
    expect(faults.length).toBeGreaterThan(30);
    expect(faults.filter((fault) => fault !== undefined)).toEqual([]);
  });

  it('are all reached from the README', () => {
    const reached = new Set(['README.md']);
    for (const file of reached) {
      for (const link of linksOf(texts.get(file) ?? '')) {
        const place = path.join(path.dirname(file), link.split('#')[0] ?? '');
        if (texts.has(place)) reached.add(place);
      }
    }
    const lost = [...texts.keys()].filter((file) => /^docs\/(?!adr\/)/.test(file) && !reached.has(file));
    expect(lost).toEqual([]);
  });

  it('are where code, scripts and the chart say that they are', async () => {
    const faults: string[] = [];
    for await (const file of glob(['{src,scripts,charts,crds,test}/**/*.{ts,yaml,tpl,txt}', 'Makefile', 'Dockerfile'], {
      cwd: root,
      exclude: (name) => name === 'gen' || name === 'node_modules',
    })) {
      const text = await readFile(path.join(root, file), 'utf8');
      for (const [named] of text.matchAll(/(?<![\w/.-])docs\/[\w/-]+\.md\b/g)) {
        if (!existsSync(path.join(root, named))) faults.push(`${file}: there is no ${named}`);
      }
    }
    expect(faults).toEqual([]);
  });
});

describe('the README', () => {
  it('has commands for Kubernetes of which each block is complete', () => {
    const text = readFileSync(path.join(root, 'README.md'), 'utf8');
    const [, section = ''] = /^## On Kubernetes$([\s\S]*?)^## /m.exec(text) ?? [];
    const blocks = [...section.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block = '']) => block);
    expect(blocks.length).toBeGreaterThan(5);
    for (const block of blocks) expect(spawnSync('bash', ['-n'], { input: block, encoding: 'utf8' }).stderr).toBe('');
    const named = blocks.flatMap((block) => block.match(/\b(examples|charts)\/[\w./-]+/g) ?? []);
    expect(named.length).toBeGreaterThan(3);
    expect(named.filter((file) => !existsSync(path.join(root, file)))).toEqual([]);
  });
});

describe('the check of links', () => {
  it('finds a file and a heading that are not there, and passes what is', () => {
    const text = '# What is `needed`?\n[one](#what-is-needed) [two](#nothing) [three](gone.md) `[four](x.md)`';
    const texts = new Map([['README.md', text]]);
    expect(linksOf(text).map((link) => faultOf('README.md', link, texts))).toEqual([
      undefined,
      'README.md: README.md has no heading nothing',
      'README.md: there is no gone.md',
    ]);
  });
});
