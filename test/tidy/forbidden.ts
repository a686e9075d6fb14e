import path from 'node:path';
import {
  importsOf,
  isCode,
  isMember,
  isNode,
  isShipped,
  isTest,
  lineOffences,
  nameOf,
  type Node,
  offences,
  type Rule,
} from './source.ts';

const CLOCKS = [
  ['Date', 'now'],
  ['performance', 'now'],
  ['performance', 'timeOrigin'],
  ['process', 'hrtime'],
  ['process', 'uptime'],
  ['Temporal', 'Now'],
] as const;

function readsClock(node: Node): string | undefined {
  const clock = CLOCKS.find(([object, property]) => isMember(node, object, property));
  if (clock !== undefined) return `${clock.join('.')}: time is a parameter; only clock.ts reads it`;
  const bare = node.type === 'CallExpression' || (node.type === 'NewExpression' && isEmpty(node.arguments));
  return bare && nameOf(node.callee) === 'Date' ? 'the present moment: only clock.ts reads it' : undefined;
}

const isEmpty = (value: unknown): boolean => Array.isArray(value) && value.length === 0;

const clock: Rule = {
  name: 'the time is read in clock.ts only, and a parameter everywhere else',
  covers: (file) => isShipped(file) && path.posix.basename(file) !== 'clock.ts',
  find: (file) => offences(file, readsClock),
  offenders: [
    { path: 'packages/engine/src/x.ts', text: 'const a = Date.now();' },
    { path: 'packages/engine/src/x.ts', text: 'const now = Date.now;' },
    { path: 'packages/engine/src/x.ts', text: 'const a = new Date();' },
    { path: 'packages/engine/src/x.ts', text: 'const a = Date();' },
    { path: 'packages/engine/src/x.ts', text: 'const a = globalThis.performance.now();' },
    { path: 'packages/engine/src/x.ts', text: 'const a = process.hrtime.bigint();' },
  ],
  innocents: [
    { path: 'packages/engine/src/x.ts', text: '// Date.now() would be wrong here\nconst a = new Date(now_us / 1000);' },
    { path: 'packages/engine/src/x.ts', text: 'const at = Date.parse(text); const d = Date.UTC(2026, 0);' },
  ],
};

const isConfig = (file: string): boolean => /^packages\/cli\/src\/config[^/]*\.ts$/.test(file);

const environment: Rule = {
  name: "the environment is read in the command line's configuration only",
  covers: (file) =>
    isCode(file) && !isConfig(file) && (isShipped(file) || isTest(file)) && !file.startsWith('test/support/'),
  find: (file) => [
    ...offences(file, (node) => (isMember(node, 'process', 'env') ? 'process.env: take it as a parameter' : undefined)),
    ...importsOf(file)
      .filter(({ specifier, names }) => /^(node:)?process$/.test(specifier) && names.includes('env'))
      .map(({ line }) => ({ line, why: 'env of node:process: take it as a parameter' })),
  ],
  offenders: [
    { path: 'packages/engine/src/x.ts', text: 'const url = process.env.DATABASE_URL;' },
    { path: 'packages/cli/src/start.ts', text: 'const all = { ...globalThis.process.env };' },
    { path: 'packages/api/src/x.ts', text: `import { env } from 'node:process';` },
    { path: 'packages/api/test/x.test.ts', text: 'const url = process.env.DATABASE_URL;' },
  ],
  innocents: [
    { path: 'packages/engine/src/x.ts', text: 'const { env } = options; const a = process.argv;' },
    { path: 'packages/engine/src/y.ts', text: '// set by process.env' },
  ],
};

const random: Rule = {
  name: 'no Math.random: ids and tokens come from node:crypto, everything else from a seed that is printed',
  covers: isCode,
  find: (file) => offences(file, (node) => (isMember(node, 'Math', 'random') ? 'Math.random' : undefined)),
  offenders: [
    { path: 'packages/carrier-sim/src/x.ts', text: 'const a = Math.random();' },
    { path: 'test/x.test.ts', text: 'const pick = Math.random;' },
  ],
  innocents: [{ path: 'packages/engine/src/x.ts', text: 'const a = Math.round(1.5); const b = generator.random();' }],
};

const anyType: Rule = {
  name: 'no `any`',
  covers: isCode,
  find: (file) =>
    offences(file, (node) => (node.type === 'TSAnyKeyword' ? 'any: say what it is, or unknown' : undefined)),
  offenders: [
    { path: 'packages/engine/src/x.ts', text: 'export const f = (row: any) => row;' },
    { path: 'test/x.test.ts', text: 'const rows = answer as Record<string, any>[];' },
  ],
  innocents: [{ path: 'packages/engine/src/x.ts', text: 'const sql = "seq = any($1)"; const any = 1; // any' }],
};

const SILENCED = new RegExp(`@ts-(${['ignore', 'nocheck', 'expect-error'].join('|')})\\b`);

const silencedTypes: Rule = {
  name: 'the type checker is not silenced (a test may expect a type error)',
  covers: isCode,
  find: (file) =>
    lineOffences(file.text, (line) => {
      const found = SILENCED.exec(line)?.[1];
      return found === undefined || (found === 'expect-error' && isTest(file.path)) ? undefined : `@ts-${found}`;
    }),
  offenders: [
    { path: 'test/x.test.ts', text: `// @ts-${'ignore'}\nf(1);` },
    { path: 'packages/engine/src/x.ts', text: `/* @ts-${'nocheck'} */` },
    { path: 'packages/engine/src/x.ts', text: `// @ts-${'expect-error'} it is fine` },
  ],
  innocents: [{ path: 'test/x.test.ts', text: `// @ts-${'expect-error'} a run is no business\nf(run_id);` }],
};

const isCastToUnknown = (node: unknown): boolean =>
  isNode(node) &&
  node.type === 'TSAsExpression' &&
  isNode(node.typeAnnotation) &&
  node.typeAnnotation.type === 'TSUnknownKeyword';

const doubleCast: Rule = {
  name: 'no `as unknown as`: parse it (a test may, to hand over what no type allows)',
  covers: (file) => isCode(file) && !isTest(file),
  find: (file) =>
    offences(file, (node) =>
      node.type === 'TSAsExpression' && isCastToUnknown(node.expression) ? 'a cast by way of unknown' : undefined,
    ),
  offenders: [{ path: 'packages/engine/src/x.ts', text: 'const run = row as unknown as Run;' }],
  innocents: [{ path: 'packages/engine/src/x.ts', text: 'const row: unknown = JSON.parse(text) as unknown;' }],
};

const consoleOutput: Rule = {
  name: 'only the command line writes to the console; the others log',
  covers: (file) => isShipped(file) && !file.startsWith('packages/cli/'),
  find: (file) =>
    offences(file, (node) =>
      node.type === 'MemberExpression' && nameOf(node.object) === 'console'
        ? `console.${nameOf(node.property)}`
        : undefined,
    ),
  offenders: [{ path: 'packages/worker/src/x.ts', text: 'console.log(run);' }],
  innocents: [{ path: 'packages/cli/src/x.ts', text: 'console.log(run);' }],
};

const LATER = new RegExp(
  `\\b(${['TO', 'FIX'].map((start) => `${start}${start === 'TO' ? 'DO' : 'ME'}`).join('|')})\\b`,
);

const promises: Rule = {
  name: 'no notes to do it later: do it, or open an issue',
  covers: (file) => file !== 'package-lock.json',
  find: (file) => lineOffences(file.text, (line) => LATER.exec(line)?.[1]),
  offenders: [
    { path: 'packages/engine/src/x.ts', text: `// ${'TO'}${'DO'}: bound this` },
    { path: 'docs/x.md', text: `${'FIX'}${'ME'} later` },
    { path: 'packages/engine/migrations/0001_x.sql', text: `-- ${'TO'}${'DO'} index` },
  ],
  innocents: [{ path: 'docs/x.md', text: 'What is left to do stands in the issues.' }],
};

export const forbiddenRules = [clock, environment, random, anyType, silencedTypes, doubleCast, consoleOutput, promises];
