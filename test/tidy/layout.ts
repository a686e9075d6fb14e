import path from 'node:path';
import { isCode, isTest, lineAt, type Node, nodes, type Offence, type Rule, type SourceFile } from './source.ts';

const SOURCE_LINES_MAX = 400;
const TEST_LINES_MAX = 600;
const FUNCTION_LINES_MAX = 80;

const length: Rule = {
  name: `a file fits in the head: ${SOURCE_LINES_MAX} lines of source, ${TEST_LINES_MAX} of test`,
  covers: isCode,
  find: ({ path: file, text }) => {
    const lines = text.replace(/\n$/, '').split('\n').length;
    const most = isTest(file) ? TEST_LINES_MAX : SOURCE_LINES_MAX;
    return lines > most ? [{ line: most + 1, why: `${lines} lines, ${most} at most: split it by what it does` }] : [];
  },
  offenders: [
    { path: 'packages/engine/src/x.ts', text: '\n'.repeat(SOURCE_LINES_MAX + 1) },
    { path: 'test/x.test.ts', text: '\n'.repeat(TEST_LINES_MAX + 1) },
  ],
  innocents: [
    { path: 'packages/engine/src/x.ts', text: '\n'.repeat(SOURCE_LINES_MAX) },
    { path: 'packages/engine/test/x.test.ts', text: '\n'.repeat(SOURCE_LINES_MAX + 1) },
  ],
};

const isFunction = (node: Node): boolean =>
  ['FunctionDeclaration', 'FunctionExpression', 'ArrowFunctionExpression'].includes(node.type);

/**
 * A function's own lines: those that hold something other than a comment, without the functions inside it (one that
 * makes a group of functions around a shared state is as long as they are together, and still easy to read).
 */
function ownLines(file: SourceFile, node: Node, functions: readonly Node[]): number {
  const inner = functions.filter((other) => other !== node && other.start >= node.start && other.end <= node.end);
  let text = file.text.slice(node.start, node.end);
  for (const { start, end } of inner) {
    const [from, to] = [start - node.start, end - node.start];
    // Line breaks outside the inner function stay where they are, so that what is around it still counts.
    text = text.slice(0, from) + text.slice(from, to).replace(/[^\n]/g, ' ') + text.slice(to);
  }
  return text.split('\n').filter((line) => !/^\s*($|\/\/|\/?\*)/.test(line)).length;
}

const screen: Rule = {
  name: `a function fits on a screen: ${FUNCTION_LINES_MAX} lines without comments and inner functions`,
  covers: (file) => isCode(file) && !isTest(file),
  find: (file) => {
    const functions = nodes(file).filter(isFunction);
    return functions.flatMap((node) => {
      const lines = ownLines(file, node, functions);
      if (lines <= FUNCTION_LINES_MAX) return [];
      return [{ line: lineAt(file.text, node.start), why: `${lines} lines, ${FUNCTION_LINES_MAX} at most` }];
    });
  },
  offenders: [
    { path: 'packages/engine/src/x.ts', text: `function f() {\n${'g();\n'.repeat(FUNCTION_LINES_MAX - 1)}}` },
    { path: 'packages/engine/src/x.ts', text: `const f = () => {\n${'g(() => 1);\n'.repeat(FUNCTION_LINES_MAX)}};` },
  ],
  innocents: [
    { path: 'packages/engine/src/x.ts', text: `function f() {\n${'g();\n'.repeat(FUNCTION_LINES_MAX - 2)}}` },
    { path: 'packages/engine/src/x.ts', text: `function f() {\n${'// why\n\n'.repeat(FUNCTION_LINES_MAX)}}` },
    {
      path: 'packages/engine/src/x.ts',
      text: `function f() {\nfunction g() {\n${'h();\n'.repeat(40)}}\nfunction i() {\n${'h();\n'.repeat(40)}}\n}`,
    },
  ],
};

const KEBAB = /^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)*$/;
const CUSTOMARY = /^(LICENSE|Dockerfile|[A-Z]+\.md)$/;
const MIGRATIONS = 'packages/engine/migrations/';

const names: Rule = {
  name: 'files and folders are named in kebab-case',
  // Fixtures bear the names that users give their files.
  covers: (file) => !file.startsWith(MIGRATIONS) && !file.includes('/fixtures/'),
  find: ({ path: file }) => {
    const bad = file.split('/').filter((part) => !part.startsWith('.') && !KEBAB.test(part) && !CUSTOMARY.test(part));
    return bad.map((part) => ({ line: 1, why: `"${part}" is not kebab-case` }));
  },
  offenders: [
    { path: 'packages/engine/src/claimJobs.ts', text: '' },
    { path: 'packages/engine/src/claim_jobs.ts', text: '' },
    { path: 'packages/carrierSim/src/index.ts', text: '' },
    { path: 'docs/Guide One.md', text: '' },
  ],
  innocents: [
    { path: 'packages/carrier-sim/test/call-log.test.ts', text: '' },
    { path: '.github/CODE.md', text: '' },
    { path: 'README.md', text: '' },
  ],
};

const MIGRATION = /^(\d{4})_[a-z0-9]+(_[a-z0-9]+)*\.sql$/;

/** The same number twice, or a number whose predecessor is missing, shows in the paths alone. */
function misnumbered(file: string, paths: ReadonlySet<string>): string | undefined {
  const number = MIGRATION.exec(path.posix.basename(file))?.[1];
  if (number === undefined) return 'migrations are named NNNN_what.sql';
  const numbered = (n: number): string[] =>
    [...paths].filter((other) => other.startsWith(`${MIGRATIONS}${String(n).padStart(4, '0')}_`) && other !== file);
  if (number === '0000') return 'migrations are numbered from 0001';
  if (numbered(Number(number)).length > 0) return `another migration has the number ${number}`;
  if (number !== '0001' && numbered(Number(number) - 1).length === 0) return 'the migration before it is missing';
  return undefined;
}

const migrations: Rule = {
  name: 'migrations are NNNN_what.sql, numbered from 0001 without a gap',
  covers: (file) => file.startsWith(MIGRATIONS),
  find: ({ path: file }, paths): Offence[] => {
    const why = misnumbered(file, paths);
    return why === undefined ? [] : [{ line: 1, why }];
  },
  offenders: [
    { path: `${MIGRATIONS}1_leads.sql`, text: '' },
    { path: `${MIGRATIONS}0001_Leads.sql`, text: '' },
    { path: `${MIGRATIONS}0003_leads.sql`, text: '', beside: [`${MIGRATIONS}0001_first.sql`] },
    { path: `${MIGRATIONS}0002_leads.sql`, text: '', beside: [`${MIGRATIONS}0001_a.sql`, `${MIGRATIONS}0002_b.sql`] },
    { path: `${MIGRATIONS}readme.txt`, text: '' },
  ],
  innocents: [
    { path: `${MIGRATIONS}0001_first.sql`, text: '', beside: [`${MIGRATIONS}0002_leads_and_lists.sql`] },
    { path: `${MIGRATIONS}0002_leads_and_lists.sql`, text: '', beside: [`${MIGRATIONS}0001_first.sql`] },
  ],
};

export const layoutRules = [length, screen, names, migrations];
