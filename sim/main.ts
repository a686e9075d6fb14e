#!/usr/bin/env node
// Whole worlds from a number: `npm run sim -- --seeds N [--from S] [--first]`, which ends with the first violation when
// told so, or `--seed S --trace` for one of them. See README.md beside this.
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { openOwnServer } from './own-server.ts';
import { simulateOutside } from './outside.ts';
import { runSeed, type Verdict } from './seed.ts';

const SEED_MOST = 2 ** 31 - 1;

function usage(why: string): never {
  console.error(`sim: ${why}\nusage: npm run sim -- [--seeds N] [--from S] [--first] | --seed S [--trace]`);
  process.exit(2);
}

function read() {
  try {
    return parseArgs({
      options: {
        seeds: { type: 'string' },
        from: { type: 'string' },
        seed: { type: 'string' },
        trace: { type: 'boolean' },
        first: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    usage((error as Error).message);
  }
}

function whole(name: string, text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number > SEED_MOST) usage(`--${name} must be a whole number up to ${SEED_MOST}`);
  return number;
}

const given = read();
const from = whole('from', given.seed ?? given.from ?? String(randomInt(SEED_MOST >> 1)));
const seeds = given.seed === undefined ? whole('seeds', given.seeds ?? '100') : 1;

let stopped = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => (stopped = true));
const server = await openOwnServer();
simulateOutside();
const since_ms = performance.now();
const sum = { seeds: 0, violated: 0, calls: 0, mishaps: 0, simulated_s: 0 };
try {
  for (let seed = from; seed < from + seeds; seed++) {
    const verdict = await runSeed(seed, server, given.trace);
    if (given.trace) console.log(verdict.trace.join('\n'));
    count(verdict);
    if (verdict.violations.length + verdict.unfinished.length > 0) tell(verdict);
    if (stopped || (given.first && sum.violated > 0)) break;
    if (sum.seeds % 100 === 0) console.error(`  ${sum.seeds} seeds, ${perMinute()} a minute`);
  }
} finally {
  await server.close();
}
console.log(
  `${sum.seeds} seeds from ${from}: ${sum.violated} with violations; ${sum.calls} calls, ${sum.mishaps} mishaps, ` +
    `${Math.round(sum.simulated_s / 60)} simulated minutes; ${perMinute()} seeds a minute`,
);
process.exitCode = sum.violated > 0 ? 1 : stopped ? 130 : 0;

function count(verdict: Verdict): void {
  sum.seeds += 1;
  sum.violated += verdict.violations.length + verdict.unfinished.length > 0 ? 1 : 0;
  sum.calls += verdict.calls;
  sum.mishaps += verdict.mishaps;
  sum.simulated_s += verdict.lasted_s;
}

function tell({ seed, digest, violations, unfinished }: Verdict): void {
  console.log(`seed ${seed} (${digest}) is violated; again with: npm run sim -- --seed ${seed} --trace`);
  for (const what of violations) console.log(`  ${what}`);
  for (const what of unfinished) console.log(`  not over in time: ${what}`);
}

function perMinute(): number {
  return Math.round((sum.seeds * 60_000) / (performance.now() - since_ms));
}
