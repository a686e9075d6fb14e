import { below, importsOf, isMember, isNode, isTest, nameOf, type Node, offences, type Rule } from './source.ts';

const list = (value: unknown): Node[] => (Array.isArray(value) ? value.filter(isNode) : []);

/** `new Promise((resolve) => setTimeout(resolve, …))`, and the same with `resolve()` called in the timer's function. */
function isSleepingPromise(node: Node): boolean {
  if (node.type !== 'NewExpression' || nameOf(node.callee) !== 'Promise') return false;
  const executor = list(node.arguments)[0];
  const resolve = executor === undefined ? undefined : nameOf(list(executor.params)[0]);
  if (executor === undefined || resolve === undefined) return false;
  const timers = below(executor).filter((n) => n.type === 'CallExpression' && nameOf(n.callee) === 'setTimeout');
  return timers.some((timer) => {
    const action = list(timer.arguments)[0];
    if (action === undefined) return false;
    return (
      nameOf(action) === resolve ||
      below(action).some((n) => n.type === 'CallExpression' && nameOf(n.callee) === resolve)
    );
  });
}

function sleeps(node: Node): string | undefined {
  if (isSleepingPromise(node)) return 'a sleep: wait for a condition instead';
  if (isMember(node, 'Atomics', 'wait')) return 'Atomics.wait: wait for a condition instead';
  const called = node.type === 'CallExpression' && isNode(node.callee) && node.callee.type === 'Identifier';
  const name = called ? nameOf(node.callee) : undefined;
  return name === 'sleep' || name === 'delay' ? `${name}(): wait for a condition instead` : undefined;
}

const noSleeps: Rule = {
  name: 'tests wait for signals and conditions, never for time to pass (a helper file may poll)',
  covers: (file) => isTest(file) && /\.test\.tsx?$/.test(file),
  find: (file) => [
    ...offences(file, sleeps),
    ...importsOf(file)
      .filter(({ specifier }) => /^(node:)?timers\/promises$/.test(specifier))
      .map(({ line, specifier }) => ({ line, why: `${specifier}: wait for a condition instead` })),
  ],
  offenders: [
    { path: 'test/x.test.ts', text: 'await new Promise((resolve) => setTimeout(resolve, 100));' },
    { path: 'test/x.test.ts', text: 'await new Promise<void>((done) => { setTimeout(() => done(), 100); });' },
    { path: 'packages/api/test/x.test.ts', text: `import { setTimeout as wait } from 'node:timers/promises';` },
    { path: 'test/x.test.ts', text: 'await sleep(100);' },
  ],
  innocents: [
    { path: 'test/x.test.ts', text: 'await new Promise((_, no) => setTimeout(() => no(new Error("late")), 9));' },
    { path: 'test/x.test.ts', text: 'const kill = setTimeout(() => child.kill(), 5000); await until(() => done);' },
  ],
};

const TEST_NAMES = ['it', 'test', 'describe', 'suite', 'bench'];
const LEFT_OUT = ['only', 'skip', 'todo'];
const OLD_NAMES = ['xit', 'xtest', 'xdescribe', 'fit', 'fdescribe'];

/** The first name of a chain: `it` for `it.concurrent.only`. */
const first = (node: unknown): string | undefined =>
  isNode(node) && node.type === 'MemberExpression' ? first(node.object) : nameOf(node);

function leavesOut(node: Node): string | undefined {
  if (node.type === 'CallExpression' && OLD_NAMES.includes(nameOf(node.callee) ?? '')) return nameOf(node.callee);
  if (node.type !== 'MemberExpression' || !TEST_NAMES.includes(first(node) ?? '')) return undefined;
  const name = nameOf(node.property) ?? '';
  return LEFT_OUT.includes(name) ? `.${name}: every test runs, or says by skipIf what it needs` : undefined;
}

const everyTestRuns: Rule = {
  name: 'no test is left out: no .only, .skip, .todo',
  covers: isTest,
  find: (file) => offences(file, leavesOut),
  offenders: [
    { path: 'test/x.test.ts', text: "it.only('a', () => {});" },
    { path: 'test/x.test.ts', text: "describe.concurrent.skip('a', () => {});" },
    { path: 'test/x.test.ts', text: "it.todo('a');" },
    { path: 'test/x.test.ts', text: "xit('a', () => {});" },
  ],
  innocents: [
    { path: 'test/x.test.ts', text: "it.skipIf(url === undefined)('a', () => {}); rows.skip(1); // it.only" },
  ],
};

export const testRules = [noSleeps, everyTestRuns];
