import path from 'node:path';
import { lineOffences, type Offence, type Rule } from './source.ts';

/** Code is no link: blanked out, with its line breaks kept so that line numbers hold. */
const withoutCode = (markdown: string): string =>
  markdown.replace(/^(```+|~~~+)[^\n]*\n.*?^\1/gms, (block) => block.replace(/[^\n]/g, '')).replace(/`[^`\n]+`/g, '');

const LINKS = [/\]\(<?([^()\s>]+)>?(?:\s+"[^"]*")?\)/g, /^\s*\[[^\]]+\]:\s+(\S+)/g, /\b(?:src|href)="([^"]+)"/g];
const ELSEWHERE = /^([a-z][a-z0-9+.-]*:|\/\/|#)/i;

function missingTargets(file: string, line: string, paths: ReadonlySet<string>): string[] {
  const links = LINKS.flatMap((pattern) => [...line.matchAll(pattern)].map((match) => match[1] ?? ''));
  return links.filter((link) => {
    if (ELSEWHERE.test(link)) return false;
    const bare = decodeURI(link.replace(/[?#].*$/, ''));
    const target = path.posix.join(bare.startsWith('/') ? '' : path.posix.dirname(file), bare).replace(/\/$/, '');
    return target !== '.' && !paths.has(target) && ![...paths].some((other) => other.startsWith(`${target}/`));
  });
}

const links: Rule = {
  name: 'every relative link in the documents leads to a file',
  covers: (file) => file.endsWith('.md'),
  find: ({ path: file, text }, paths): Offence[] =>
    lineOffences(withoutCode(text), (line) => {
      const missing = missingTargets(file, line, paths);
      return missing.length === 0 ? undefined : `${missing.join(', ')} does not exist`;
    }),
  offenders: [
    { path: 'README.md', text: 'See [how](docs/how.md).' },
    { path: 'docs/a.md', text: 'Back to [it](docs/b.md#top).', beside: ['docs/b.md'] },
    { path: 'docs/a.md', text: 'One\n\n[it]: ../gone.md' },
    { path: 'docs/a.md', text: '<img alt="x" src="picture.svg">' },
    { path: 'docs/a.md', text: '[out](../../elsewhere.md)' },
  ],
  innocents: [
    { path: 'docs/a.md', text: '[b](b.md#top) [r](../README.md) [d](./)', beside: ['docs/b.md', 'README.md'] },
    { path: 'docs/a.md', text: '[w](https://example.com/x) [m](mailto:a@example.com) [h](#here)' },
    { path: 'docs/a.md', text: '```\n[x](gone.md)\n```\nand `[x](gone.md)`' },
    { path: 'docs/a.md', text: '[folder](../packages/engine)', beside: ['packages/engine/package.json'] },
  ],
};

/** In pieces, so that this file does not name what it looks for. */
const HOSTS = ['npmjs.', 'yarnpkg.', 'pypi.', 'jsr.'].flatMap((name) => ['org', 'com', 'io'].map((end) => name + end));
const HOST = new RegExp(
  `\\b(${HOSTS.join('|').replaceAll('.', '\\.')})\\b|\\b(npm|${'regis'}${'try'})\\.[a-z0-9-]+\\.[a-z]{2,}`,
  'i',
);
const REGISTRY_SETTING = /^\s*(@[\w-]+:)?registry\s*=/;

const registryHosts: Rule = {
  name: 'no file names the host of a package registry: where packages come from is set on each machine',
  covers: () => true,
  find: ({ path: file, text }) =>
    lineOffences(text, (line) => {
      if (file.endsWith('.npmrc') && REGISTRY_SETTING.test(line)) return 'sets a registry';
      return HOST.exec(line)?.[0];
    }),
  offenders: [
    { path: 'docs/a.md', text: `from https://${'registry'}.${'npmjs'}.org/pg` },
    { path: 'package-lock.json', text: `"resolved": "https://${'registry'}.corp.example/pg.tgz"` },
    { path: '.npmrc', text: 'registry=http://localhost:4873' },
  ],
  innocents: [
    { path: 'docs/a.md', text: 'The registry is the one that npm is set up with. See registry.ts.' },
    { path: '.npmrc', text: 'omit-lockfile-registry-resolved=true' },
  ],
};

const HOMES = ['work', 'home', 'root', 'Users', 'mnt'].join('|');
const MACHINE_PATH = new RegExp(
  `(?:^|[\\s"'\`(=,;<>\\[{]|file://)((?:/(?:${HOMES})/|[A-Z]:\\\\+Users\\\\)[^\\s"'\`)]*)`,
);

const machinePaths: Rule = {
  name: "no file holds an absolute path of somebody's machine",
  covers: () => true,
  find: ({ text }) => lineOffences(text, (line) => MACHINE_PATH.exec(line)?.[1]),
  offenders: [
    { path: 'docs/a.md', text: `cd ${'/home'}/dana/carillon` },
    { path: 'packages/engine/src/x.ts', text: `const dir = '${'/work'}/main';` },
    { path: 'docs/a.md', text: `open C:${'\\'}Users\\dana` },
  ],
  innocents: [
    { path: 'docs/a.md', text: 'GET https://example.com/home/x and /api/work/x, ./work/x, /tmp/x' },
    { path: 'docs/a.md', text: 'at home/work/root' },
  ],
};

type Locked = { resolved?: string; integrity?: string; link?: boolean };

const lockfile: Rule = {
  name: 'the lockfile pins each package by its hash, and not by where it was fetched from',
  covers: (file) => file === 'package-lock.json',
  find: ({ text }) => {
    const packages: Record<string, Locked> = JSON.parse(text).packages;
    const lineOf = (name: string): number => text.split('\n').findIndex((line) => line.includes(`"${name}":`)) + 1;
    return Object.entries(packages).flatMap(([name, entry]) => {
      if (!name.includes('node_modules/') || entry.link) return [];
      if (entry.resolved !== undefined) return [{ line: lineOf(name), why: `${name} is resolved to a place` }];
      return entry.integrity === undefined ? [{ line: lineOf(name), why: `${name} has no integrity hash` }] : [];
    });
  },
  offenders: [
    lock({ 'node_modules/pg': { resolved: 'https://example.com/pg.tgz', integrity: 'sha512-x' } }),
    lock({ 'node_modules/pg': {} }),
  ],
  innocents: [
    lock({
      '': {},
      'packages/engine': {},
      'node_modules/@carillon/engine': { resolved: 'packages/engine', link: true },
      'node_modules/pg': { integrity: 'sha512-x' },
    }),
  ],
};

function lock(packages: Record<string, Locked>): { path: string; text: string } {
  return { path: 'package-lock.json', text: JSON.stringify({ packages }, null, 2) };
}

export const documentRules = [links, registryHosts, machinePaths, lockfile];
