#!/usr/bin/env node
// Takes each protection away in turn and sees that a test notices: `npm run mutate`, see docs/mutations.md.
//   --only <regexp>   only mutants whose names match
//   --at-once <n>     so many copies of the repository, and tests, at a time (default 1)
//   --list            names them and does nothing; with --markdown as in the document
// Exit code 0 when every mutant is caught, 1 when one survives or a test fails without any, 2 for a wrong call.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { startEmbedded } from '@carillon/cli';
import { MUTANTS } from './list.ts';
import { inMarkdown } from './markdown.ts';
import type { Mutant } from './mutant.ts';
import { type PlantedTree, plantedTree } from './tree.ts';
import { type Session, startSession, type TestRun } from './vitest.ts';

const LIMIT_MS = 240_000;

function read() {
  try {
    const { values } = parseArgs({
      options: {
        only: { type: 'string', default: '' },
        'at-once': { type: 'string', default: '1' },
        list: { type: 'boolean', default: false },
        markdown: { type: 'boolean', default: false },
      },
    });
    const at_once = Number(values['at-once']);
    if (!(Number.isInteger(at_once) && at_once > 0)) throw new Error('--at-once takes a whole number above 0');
    const only = new RegExp(values.only);
    return { ...values, at_once, mutants: MUTANTS.filter(({ name }) => only.test(name)) };
  } catch (error) {
    console.error(`mutate: ${error instanceof Error ? error.message : String(error)}`);
    console.error('usage: npm run mutate -- [--only REGEXP] [--at-once N] [--list [--markdown]]');
    process.exit(2);
  }
}

/** One PostgreSQL for all runs, with nothing in it that must last. */
async function startServer(): Promise<{ url: string; stop(): Promise<void> }> {
  const given = process.env.CARILLON_TEST_SERVER_URL;
  if (given) return { url: given, stop: async () => {} };
  const dataDir = await mkdtemp(path.join(tmpdir(), 'carillon-mutate-'));
  const settings = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '300' };
  const embedded = await startEmbedded({ dataDir, settings });
  return {
    url: embedded.superuserUrl,
    async stop() {
      await embedded.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

/** Each catcher passes while nothing is broken, and has the tests that it names. */
async function expectWhole(session: Session, mutants: readonly Mutant[]): Promise<boolean> {
  let whole = true;
  for (const [test, group] of Map.groupBy(mutants, ({ catcher }) => catcher.test)) {
    const wanted = [...new Set(group.map(({ catcher }) => catcher.title))];
    const titles = wanted.some((title) => title === undefined) ? [] : wanted.flatMap((title) => title ?? []);
    const run = await session.run({ test, titles, changed: [] }, 2 * LIMIT_MS);
    const missing = wanted.filter((title) => !run.passed.some((name) => name.includes(title ?? '')));
    const bad = run.failed ? `fails: ${run.failed.name}: ${run.failed.message.slice(0, 500)}` : '';
    const absent = missing.length > 0 ? `has no test of the name: ${missing.join('; ')}` : '';
    console.log(`unbroken, ${test} ${bad || absent || 'passes'}, ${seconds(run.took_ms)}`);
    if (bad || absent || run.timed_out) whole = false;
  }
  return whole;
}

/** A mutant that does not even run is caught by anything, and shows nothing. */
const NOT_RUN =
  /SyntaxError|ReferenceError|Internal server error|Cannot find module|syntax error|Transform failed|bind message supplies|could not determine data type|there is no parameter|(column|relation) "?[\w.]+"? does not exist|missing FROM-clause|operator does not exist|invalid reference/;

type Fate = 'caught' | 'survived' | 'does not run';

function judge({ failed, timed_out, passed }: TestRun): { fate: Fate; how: string } {
  if (timed_out) return { fate: 'caught', how: 'by its time limit: a test hangs' };
  if (failed === null) return { fate: 'survived', how: `${passed.length} tests pass` };
  const first = failed.message.split('\n').find((line) => line.trim() !== '');
  const how = `by "${failed.name}": ${first?.slice(0, 160) ?? ''}`;
  return { fate: NOT_RUN.test(failed.message) ? 'does not run' : 'caught', how };
}

async function tryMutants(tree: PlantedTree, session: Session, queue: Iterator<Mutant>): Promise<Fate[]> {
  const fates: Fate[] = [];
  let mended: string[] = [];
  for (let next = queue.next(); !next.done; next = queue.next()) {
    const { catcher, ...mutant } = next.value;
    await tree.apply(mutant);
    const titles = catcher.title === undefined ? [] : [catcher.title];
    const changed = [mutant.file, ...mended];
    const run = await session.run({ test: catcher.test, titles, changed }, LIMIT_MS);
    await tree.restore();
    mended = [mutant.file];
    const { fate, how } = judge(run);
    fates.push(fate);
    console.log(`${fate === 'caught' ? fate : fate.toUpperCase()} ${mutant.name} ${how} (${seconds(run.took_ms)})`);
  }
  return fates;
}

const { list, markdown, mutants, at_once } = read();
if (list) {
  const text = markdown ? inMarkdown() : mutants.map(({ name, what }) => `${name}: ${what}`).join('\n');
  // A pipe takes it piece by piece.
  await new Promise<void>((resolve) => process.stdout.write(`${text}\n`, () => resolve()));
  process.exit(0);
}

const started_ms = performance.now();
const server = await startServer();
const places: { tree: PlantedTree; session: Session }[] = [];
let cleaned: Promise<void> | undefined;
const cleanUp = () => (cleaned ??= removeAll());
async function removeAll(): Promise<void> {
  await Promise.all(places.map(async ({ tree, session }) => await session.close().finally(tree.remove)));
  await server.stop();
}
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void cleanUp().finally(() => process.exit(130)));
try {
  for (let n = 0; n < Math.min(at_once, mutants.length); n++) {
    const tree = await plantedTree();
    places.push({ tree, session: startSession(tree.root, server.url) });
  }
  const [first] = places;
  if (!first || !(await expectWhole(first.session, mutants))) {
    console.log(first ? 'the tests must pass before anything is broken' : 'there is no such mutant');
    process.exitCode = 1;
  } else {
    const queue = mutants.values();
    const fates = (await Promise.all(places.map(({ tree, session }) => tryMutants(tree, session, queue)))).flat();
    const of = (fate: Fate) => fates.filter((one) => one === fate).length;
    const rest = of('does not run') > 0 ? `, ${of('does not run')} do not run` : '';
    console.log(
      `${of('caught')} caught, ${of('survived')} survived${rest}, ${seconds(performance.now() - started_ms)}`,
    );
    process.exitCode = of('caught') === fates.length ? 0 : 1;
  }
} finally {
  await cleanUp();
}
