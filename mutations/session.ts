// Runs in a copy of the repository, as a process of its own: one Vitest that stays, so that each mutant costs its tests and
// not the start of everything. Is told what to run, and says what came of it.
import path from 'node:path';
import { createVitest, type TestCase, type TestModule } from 'vitest/node';
import type { Task, TestRun } from './vitest.ts';

const root = path.dirname(import.meta.dirname);
process.chdir(root);
const vitest = await createVitest({ watch: false, root, reporters: [{}] });
await vitest.standalone();

const literally = (title: string): string => title.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

async function run({ test, titles, changed }: Task): Promise<Omit<TestRun, 'timed_out' | 'took_ms'>> {
  for (const file of changed) vitest.invalidateFile(path.join(root, file));
  // All else with it: Vite has trouble with modules that import each other in a circle.
  for (const { vite } of vitest.projects)
    for (const { moduleGraph } of Object.values(vite.environments)) moduleGraph.invalidateAll();
  if (titles.length > 0) vitest.setGlobalTestNamePattern(new RegExp(titles.map(literally).join('|')));
  else vitest.resetGlobalTestNamePattern();
  const file = path.join(root, test);
  const result = await vitest.runTestSpecifications(await vitest.globTestSpecifications([file]));
  const unhandledErrors = [...result.unhandledErrors];
  vitest.state.clearErrors();
  // What other files came to before is told again.
  const testModules = result.testModules.filter(({ moduleId }) => moduleId === file);
  const cases = testModules.flatMap((module) => [...module.children.allTests()]);
  const failed = cases.find((one) => one.result().state === 'failed');
  return {
    passed: cases.filter((one) => one.result().state === 'passed').map(nameOf),
    failed: failed ? { name: nameOf(failed), message: messageOf(failed) } : outside(testModules, unhandledErrors, test),
  };
}

const nameOf = (test: TestCase): string => test.fullName.replaceAll(' > ', ' ');

function messageOf(test: TestCase): string {
  return (test.result().errors ?? []).map(({ message, stack }) => `${message}\n${stack ?? ''}`).join('\n');
}

/** What failed though no test did: a hook, a file that could not be loaded, something that nobody caught. */
function outside(modules: readonly TestModule[], unhandled: readonly unknown[], test: string): TestRun['failed'] {
  const errors = modules.flatMap((module) => [
    ...module.errors(),
    ...[...module.children.allSuites()].flatMap((suite) => suite.errors()),
  ]);
  const [first] = [...errors, ...unhandled];
  if (modules.length === 0) return { name: test, message: 'there is no such test file' };
  if (first === undefined) return null;
  return { name: test, message: first instanceof Error ? first.message : JSON.stringify(first) };
}

process.on('message', (task: Task) => {
  run(task).then(
    (result) => process.send?.(result),
    (error: unknown) => process.send?.({ passed: [], failed: { name: task.test, message: String(error) } }),
  );
});
process.on('disconnect', () => void vitest.close().finally(() => process.exit(0)));
process.send?.('ready');
