// `npm test`: format, lint, types, then every test, each with its time. The last line on standard output is
// `N passed, N failed` (and `, N skipped` when some are): programs read it. Arguments go to Vitest
// (`npm test -- packages/engine`); the three static checks always look at everything, and count as one test each.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const bin = path.join(root, 'node_modules', '.bin');
// What the tests start finds Node 26 and the tools as it would under `npm test`, also when this file is run by hand.
const env = { ...process.env, PATH: `${bin}${path.delimiter}${process.env.PATH ?? ''}` };

/**
 * Runs one tool to its end, with its output as ours.
 * @param {string} title
 * @param {string} tool
 * @param {string[]} args
 * @returns {boolean} whether it succeeded
 */
function step(title, tool, args) {
  console.log(`\n── ${title}: ${tool} ${args.join(' ')}`);
  const since = performance.now();
  const shell = process.platform === 'win32';
  const { status, signal, error } = spawnSync(tool, args, { cwd: root, env, shell, stdio: ['ignore', 1, 2] });
  const seconds = `${((performance.now() - since) / 1000).toFixed(1)} s`;
  if (error !== undefined) console.log(`   ${tool} could not be started: ${error.message}`);
  const ending = signal === null ? `exit code ${status}` : signal;
  console.log(status === 0 ? `   ${title}: passed, ${seconds}` : `   ${title}: FAILED (${ending}), ${seconds}`);
  return status === 0;
}

/**
 * Counts from Vitest's JSON report. A file that failed without a failed test of its own (it could not be loaded, a
 * hook threw, its process died) is one failure; so is a run that failed with nothing to show for it (an unhandled
 * error, a crash, no report), and a run in which no test was executed.
 * @param {string} report
 * @param {boolean} ranWell whether Vitest's exit code was 0
 */
function countTests(report, ranWell) {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const file of readReport(report)) {
    let failedHere = 0;
    for (const { status } of file.assertionResults) {
      if (status === 'passed') sum.passed += 1;
      else if (status === 'failed') failedHere += 1;
      else sum.skipped += 1;
    }
    sum.failed += file.status === 'failed' ? Math.max(failedHere, 1) : failedHere;
  }
  if (sum.failed === 0 && sum.passed === 0) {
    console.log('   No test was executed: that counts as a failure.');
    sum.failed += 1;
  }
  if (sum.failed === 0 && !ranWell) {
    console.log('   Vitest failed outside its tests (its message stands above): that counts as a failure.');
    sum.failed += 1;
  }
  return sum;
}

/**
 * @param {string} report
 * @returns {{status: string, assertionResults: {status: string}[]}[]} nothing where Vitest left no report
 */
function readReport(report) {
  try {
    return JSON.parse(readFileSync(report, 'utf8')).testResults;
  } catch {
    console.log('   Vitest left no report.');
    return [];
  }
}

const checks = [
  step('format', 'biome', ['format', '.']),
  step('lint', 'oxlint', ['--deny-warnings']),
  step('types', 'tsc', ['--noEmit', '-p', 'tsconfig.json']),
];

const dir = mkdtempSync(path.join(os.tmpdir(), 'carillon-test-'));
const report = path.join(dir, 'report.json');
try {
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const ranWell = step('tests', 'vitest', ['run', ...reporters, ...process.argv.slice(2)]);
  const sum = countTests(report, ranWell);
  sum.passed += checks.filter((passed) => passed).length;
  sum.failed += checks.filter((passed) => !passed).length;
  process.exitCode = sum.failed === 0 ? 0 : 1;
  const skipped = sum.skipped === 0 ? '' : `, ${sum.skipped} skipped`;
  console.log(`\n${sum.passed} passed, ${sum.failed} failed${skipped}`);
} finally {
  rmSync(dir, { recursive: true, force: true });
}
