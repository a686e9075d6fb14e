import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAst } from 'vitest/node';

/** A file of the repository: its path from the root, with forward slashes, and its text. */
export type SourceFile = { path: string; text: string };
/** `line` counts from 1. */
export type Offence = { line: number; why: string };

/** One rule of the house, as a function of one file: so that a planted offender shows that it bites. */
export type Rule = {
  name: string;
  covers: (path: string) => boolean;
  /** `paths` is every path of the repository, for what one file cannot know by itself (a link's target). */
  find: (file: SourceFile, paths: ReadonlySet<string>) => Offence[];
  /** Must be caught. A sample that needs other paths beside its own names them in `beside`. */
  offenders: Sample[];
  /** Look similar and must pass. */
  innocents: Sample[];
};
export type Sample = SourceFile & { beside?: string[] };

export const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

const NOT_OURS = new Set(['node_modules', '.git', '.carillon', 'carillon-data', 'coverage']);

function walk(directory: string): string[] {
  return readdirSync(path.join(root, directory), { withFileTypes: true }).flatMap((entry) => {
    if (NOT_OURS.has(entry.name)) return [];
    const inner = path.posix.join(directory, entry.name);
    return entry.isDirectory() ? walk(inner) : [inner];
  });
}

/** Tracked files, and new ones that git does not ignore; without git (an unpacked archive) every file that is there. */
function list(): string[] {
  try {
    const out = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const found = out.split('\0').filter((file) => file !== '' && existsSync(path.join(root, file)));
    if (found.includes('package.json')) return found;
  } catch {
    // No git, or not a checkout.
  }
  return walk('.');
}

/** Every text file of the repository (one with a NUL in it is no text). */
export function repository(): SourceFile[] {
  return list()
    .map((file) => ({ path: file, text: readFileSync(path.join(root, file), 'utf8') }))
    .filter(({ text }) => !text.includes('\0'));
}

export const isCode = (file: string): boolean => /\.(ts|tsx|js|mjs)$/.test(file);
/** Code of a package that is shipped: not its tests. */
export const isShipped = (file: string): boolean => isCode(file) && /^packages\/[^/]+\/src\//.test(file);
/** A test or its helpers. */
export const isTest = (file: string): boolean => isCode(file) && /^(packages\/[^/]+\/)?test\//.test(file);

/** A node of the ESTree that Vite's parser gives; what it has beside these depends on its type. */
export type Node = { type: string; start: number; end: number; [key: string]: unknown };

export const isNode = (value: unknown): value is Node =>
  typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';

/** A node and everything below it, in the order of the text. */
export function below(node: Node): Node[] {
  const children = Object.values(node).flatMap((value) => (Array.isArray(value) ? value : [value]));
  return [node, ...children.filter(isNode).flatMap(below)];
}

const parsed = new WeakMap<SourceFile, Node[]>();

/** Every node of a file of code. @throws naming the file, when it is no TypeScript */
export function nodes(file: SourceFile): Node[] {
  let found = parsed.get(file);
  if (found === undefined) {
    try {
      const program: unknown = parseAst(file.text, { lang: file.path.endsWith('x') ? 'tsx' : 'ts' });
      found = isNode(program) ? below(program) : [];
    } catch (error) {
      throw new Error(`${file.path} can't be parsed`, { cause: error });
    }
    parsed.set(file, found);
  }
  return found;
}

/** `name` of an identifier, or of the last member of a chain: `now` for `Date.now` and `globalThis.Date.now`. */
export function nameOf(node: unknown): string | undefined {
  if (!isNode(node)) return undefined;
  if (node.type === 'Identifier') return String(node.name);
  if (node.type === 'MemberExpression') return nameOf(node.property);
  return undefined;
}

/** Whether a node is `object.property`. */
export const isMember = (node: Node, object: string, property: string): boolean =>
  node.type === 'MemberExpression' && nameOf(node.object) === object && nameOf(node.property) === property;

export const lineAt = (text: string, offset: number): number => text.slice(0, offset).split('\n').length;

/** An offence for each node that `why` has a word about. */
export function offences(file: SourceFile, why: (node: Node) => string | undefined): Offence[] {
  return nodes(file).flatMap((node) => {
    const reason = why(node);
    return reason === undefined ? [] : [{ line: lineAt(file.text, node.start), why: reason }];
  });
}

/** An offence for each line that `why` has a word about. */
export function lineOffences(text: string, why: (line: string) => string | undefined): Offence[] {
  return text.split('\n').flatMap((line, index) => {
    const reason = why(line);
    return reason === undefined ? [] : [{ line: index + 1, why: reason }];
  });
}

/** The modules that a file imports, re-exports or loads, types included. */
export function importsOf(file: SourceFile): { specifier: string; line: number; names: string[] }[] {
  return nodes(file).flatMap((node) => {
    const source = node.type === 'TSImportType' ? (node.source ?? node.argument) : node.source;
    if (!isNode(source) || typeof source.value !== 'string') return [];
    const specifiers = Array.isArray(node.specifiers) ? node.specifiers.filter(isNode) : [];
    const names = specifiers.map((s) => nameOf(s.imported) ?? 'default');
    return [{ specifier: source.value, line: lineAt(file.text, node.start), names }];
  });
}
