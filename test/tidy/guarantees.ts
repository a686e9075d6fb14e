import { isNode, nameOf, type Node, nodes, type Offence, type SourceFile } from './source.ts';

/** The document that names, for each promise, the tests that would fail: with its titles checked it can't grow old. */
export const GUARANTEES = 'docs/guarantees.md';

const CONTAINERS = ['describe', 'suite'];
const CASES = ['it', 'test'];

/** `it` for `it(…)`, `it.skipIf(…)(…)` and `it.concurrent.for(…)(…)`. */
function firstName(callee: unknown): string | undefined {
  if (!isNode(callee)) return undefined;
  if (callee.type === 'CallExpression') return firstName(callee.callee);
  return callee.type === 'MemberExpression' ? firstName(callee.object) : nameOf(callee);
}

/** A title as it stands in the source, with … for what is put into it; undefined for one that is not written out there. */
function titleOf(call: Node): string | undefined {
  const first: unknown = Array.isArray(call.arguments) ? call.arguments[0] : undefined;
  if (!isNode(first)) return undefined;
  if (first.type === 'Literal' && typeof first.value === 'string') return first.value;
  if (first.type !== 'TemplateLiteral' || !Array.isArray(first.quasis)) return undefined;
  return first.quasis.map(({ value }: { value: { cooked: string } }) => value.cooked).join('…');
}

/** The titles of a file's tests, each behind those of the groups that it is in: `a lease › is taken by one`. */
export function testTitles(file: SourceFile): Set<string> {
  const calls = nodes(file).flatMap((node) => {
    const name = node.type === 'CallExpression' ? firstName(node.callee) : undefined;
    const title = name === undefined ? undefined : titleOf(node);
    return name === undefined || title === undefined ? [] : [{ name, title, node }];
  });
  const groups = calls.filter(({ name }) => CONTAINERS.includes(name));
  const cases = calls.filter(({ name }) => CASES.includes(name));
  return new Set(
    cases.map(({ title, node }) => {
      const around = groups.filter((group) => group.node.start < node.start && node.end < group.node.end);
      return [...around.map((group) => group.title), title].join(' › ');
    }),
  );
}

const ITEM = /^ *- `([^`]+)`((?:(?!\n *- |\n\n|\n#)[\s\S])*)/gm;
/** Named in passing. */
const FILE = /`((?:packages|test|chaos|bench|model)\/[^`\s*]+\.ts)`/g;
const SECTION = /^### (.+)\n((?:(?!^##)[\s\S])*)/gm;
const PROMISES = /^## What is promised\n((?:(?!^## )[\s\S])*)/m;

/**
 * What a list of promises says of tests that is not so. An item that begins with a test file in backticks names titles
 * of it in curly quotes, and each section of the promises has such an item. Files named elsewhere must be there too.
 */
export function untrueGuarantees({ text }: SourceFile, files: readonly SourceFile[]): Offence[] {
  const lineOf = (index: number) => text.slice(0, index).split('\n').length;
  const items = [...text.matchAll(ITEM)].filter(([, path]) => path?.endsWith('.test.ts'));
  const wrong = items.flatMap(({ index, 1: path = '', 2: rest = '' }): Offence[] => {
    const line = lineOf(index);
    const file = files.find((one) => one.path === path);
    if (!file) return [];
    const known = testTitles(file);
    const named = [...rest.matchAll(/“([^”]+)”/g)].map(([, title = '']) => title.replace(/\s+/g, ' '));
    if (named.length === 0) return [{ line, why: `${path} is named without a test in it` }];
    return named.filter((title) => !known.has(title)).map((title) => ({ line, why: `${path} has no test “${title}”` }));
  });
  const gone = [...text.matchAll(FILE)]
    .filter(([, path]) => !files.some((file) => file.path === path))
    .map(({ index, 1: path }) => ({ line: lineOf(index), why: `${path} does not exist` }));
  wrong.push(...gone);
  const promises = PROMISES.exec(text);
  if (!promises) return [...wrong, { line: 1, why: 'it promises nothing' }];
  const unshown = [...(promises[1] ?? '').matchAll(SECTION)]
    .filter(([, , body = '']) => ![...body.matchAll(ITEM)].some(([, path]) => path?.endsWith('.test.ts')))
    .map(([, title]) => ({ line: 1, why: `“${title}” names no test` }));
  return [...wrong, ...unshown];
}
