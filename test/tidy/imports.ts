import path from 'node:path';
import { importsOf, isCode, isTest, type Rule, type SourceFile } from './source.ts';

/** Which of our packages each package may import. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  contract: [],
  engine: ['contract'],
  carriers: ['contract'],
  'carrier-sim': [],
  // Shares no code with what it judges.
  auditor: ['contract'],
  worker: ['contract', 'engine'],
  readiness: ['contract', 'engine', 'auditor'],
  api: ['contract', 'engine', 'auditor', 'readiness'],
  web: ['contract'],
  cli: ['contract', 'engine', 'carriers', 'carrier-sim', 'auditor', 'readiness', 'worker', 'api'],
};
/** A package's tests may also have something to call: a driver, and the simulated carrier behind it. */
const TESTS_ALSO = ['carriers', 'carrier-sim'];
/** The auditor's tests have something to judge: what the engine itself has done. */
const TESTS_OF: Record<string, readonly string[]> = { auditor: ['engine'] };

const packageOf = (file: string): string | undefined => /^packages\/([^/]+)\//.exec(file)?.[1];

function whyForbidden(file: SourceFile, specifier: string): string | undefined {
  const from = packageOf(file.path);
  const to = /^@carillon\/([^/]+)/.exec(specifier)?.[1];
  if (from === undefined || to === undefined || to === from) return undefined;
  const allowed = MAY_IMPORT[from];
  if (allowed === undefined) return `packages/${from} has no line in the table of who may import whom (test/tidy)`;
  const tested = [...TESTS_ALSO, ...(TESTS_OF[from] ?? [])];
  if (allowed.includes(to) || (isTest(file.path) && from !== 'carrier-sim' && tested.includes(to))) return undefined;
  return `${from} may not import ${to}: it may import ${allowed.join(', ') || 'nothing of ours'}`;
}

const oneWay: Rule = {
  name: 'packages import one way: contract <- engine <- worker, api <- cli',
  covers: (file) => isCode(file) && packageOf(file) !== undefined,
  find: (file) =>
    importsOf(file).flatMap(({ specifier, line }) => {
      const why = whyForbidden(file, specifier);
      return why === undefined ? [] : [{ line, why }];
    }),
  offenders: [
    { path: 'packages/contract/src/x.ts', text: `import { claim } from '@carillon/engine';` },
    { path: 'packages/engine/src/x.ts', text: `export * from '@carillon/worker';` },
    { path: 'packages/carriers/src/x.ts', text: `import type { Attempt } from '@carillon/engine';` },
    { path: 'packages/worker/src/x.ts', text: `const api = await import('@carillon/api');` },
    { path: 'packages/api/src/x.ts', text: `type Loop = import('@carillon/worker').Loop;` },
    { path: 'packages/carrier-sim/test/x.test.ts', text: `import { place } from '@carillon/carriers';` },
    { path: 'packages/auditor/src/x.ts', text: `import { defaultLimits } from '@carillon/engine';` },
    { path: 'packages/new/src/x.ts', text: `import { z } from '@carillon/contract';` },
  ],
  innocents: [
    { path: 'packages/engine/src/x.ts', text: `import { RunId } from '@carillon/contract';` },
    { path: 'packages/cli/src/x.ts', text: `import { start } from '@carillon/carrier-sim';` },
    { path: 'packages/worker/test/x.test.ts', text: `import { start } from '@carillon/carrier-sim';` },
    { path: 'packages/auditor/test/x.test.ts', text: `import { createRun } from '@carillon/engine';` },
    { path: 'packages/engine/src/y.ts', text: `// import '@carillon/cli'\nimport pg from 'pg';` },
  ],
};

/** Where a relative import arrives, from the repository's root. */
const target = (file: SourceFile, specifier: string): string =>
  path.posix.normalize(path.posix.join(path.posix.dirname(file.path), specifier));

const noDeepImports: Rule = {
  name: 'a package is entered by its front door: no deep imports, no relative path into another package',
  covers: isCode,
  find: (file) =>
    importsOf(file).flatMap(({ specifier, line }) => {
      if (/^@carillon\/[^/]+\//.test(specifier)) return [{ line, why: `${specifier} reaches into a package` }];
      if (!specifier.startsWith('.')) return [];
      const to = target(file, specifier);
      if (packageOf(to) === packageOf(file.path)) return [];
      if (isTest(file.path) && to.startsWith('test/support/')) return [];
      return [{ line, why: `${specifier} leaves its package: import it by name` }];
    }),
  offenders: [
    { path: 'packages/api/src/x.ts', text: `import { claim } from '@carillon/engine/src/call/claim.ts';` },
    { path: 'packages/api/src/x.ts', text: `import { claim } from '../../engine/src/index.ts';` },
    { path: 'packages/engine/src/x.ts', text: `import { db } from '../../../test/support/database.ts';` },
    { path: 'test/system/x.test.ts', text: `import { claim } from '../../packages/engine/src/index.ts';` },
  ],
  innocents: [
    { path: 'packages/engine/test/x.test.ts', text: `import { claim } from '../src/call/claim.ts';` },
    { path: 'packages/engine/test/x.test.ts', text: `import { db } from '../../../test/support/database.ts';` },
    { path: 'test/system/x.test.ts', text: `import { claim } from '@carillon/engine';` },
  ],
};

const runBeforeCall: Rule = {
  name: 'in the engine, call may know run, run never knows call',
  covers: (file) => isCode(file) && file.startsWith('packages/engine/src/run/'),
  find: (file) =>
    importsOf(file)
      .filter(({ specifier }) => target(file, specifier).startsWith('packages/engine/src/call/'))
      .map(({ specifier, line }) => ({ line, why: `${specifier}: move what both need to where both may look` })),
  offenders: [{ path: 'packages/engine/src/run/x.ts', text: `import { settle } from '../call/settle.ts';` }],
  innocents: [{ path: 'packages/engine/src/run/x.ts', text: `import { lockRun } from './lock.ts';` }],
};

export const importRules = [oneWay, noDeepImports, runBeforeCall];
