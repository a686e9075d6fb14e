#!/usr/bin/env node
// Faults into real processes: `npm run chaos -- --minutes N --seed S [--leads N] [--json]`. See README.md beside this.
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { TRIAL } from './limits.ts';
import { inWords } from './report.ts';
import { runTrial } from './trial.ts';

const MINUTES = 10;
const SEED_MOST = 2 ** 31 - 1;

function usage(why: string): never {
  console.error(
    `chaos: ${why}\nusage: npm run chaos -- [--minutes N] [--seed S] [--leads N] [--patience FACTOR] [--keep] [--json]`,
  );
  process.exit(2);
}

function read() {
  try {
    return parseArgs({
      options: {
        minutes: { type: 'string' },
        seed: { type: 'string' },
        leads: { type: 'string' },
        patience: { type: 'string' },
        keep: { type: 'boolean' },
        json: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error));
  }
}

function number(name: string, text: string | undefined, otherwise: number, whole: boolean, most: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!(value > 0 && value <= most) || (whole && !Number.isInteger(value)))
    usage(`--${name} is "${text}": expected a ${whole ? 'whole ' : ''}number above 0, at most ${most}`);
  return value;
}

const given = read();
const minutes = number('minutes', given.minutes, MINUTES, false, 24 * 60);
const leads = number('leads', given.leads, Math.ceil(minutes * TRIAL.leads_per_minute), true, 1_000_000);
const seed = number('seed', given.seed, randomInt(1, SEED_MOST), true, SEED_MOST);
const patience = number('patience', given.patience, 1, false, 100);
// Whoever reads JSON from standard output sees nothing else there.
const say = (line: string) => console.error(line);

const report = await runTrial({ seed, minutes, leads, patience, keep: given.keep ?? false, say });
console.log(given.json ? JSON.stringify(report) : inWords(report));
process.exit(report.ok ? 0 : 1);
