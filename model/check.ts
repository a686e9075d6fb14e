#!/usr/bin/env node
// Checks the model of the dial protocol with SPIN: `npm run model`, or `npm run model -- --quick` for a minute instead
// of a quarter of an hour. Needs `spin` and `gcc` (Debian: apt-get install spin gcc) and, in full, 4 GB of memory.
// Exit code 0 when the true protocol passes and each broken one fails with the assertion that it must break.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const MODEL = path.join(import.meta.dirname, 'dial.pml');
const MEMORY_MB = 8_000;

/** The assertions of the model, by what SPIN prints of them, without its spaces. */
const ASSERTIONS = {
  'at most once': /^\(effects\[/,
  'stop means stop': /^!\(stop_answered\)/,
  'a final run has no open attempt and no unfinished job': /!\(open\[0\]\)&&!\(open\[1\]\)/,
  'every run ends': /^\(\(campaign==\d\)\|\|\(campaign==\d\)\)$/,
} as const;
type Assertion = keyof typeof ASSERTIONS;

interface Variant {
  name: string;
  switches: string[];
  /** What must be violated; null: nothing may be. */
  breaks: Assertion | null;
  /** Too large for the quick check. */
  large?: boolean;
}

const faults = (crashes: number, losses: number, takeovers: number) => [
  `CRASHES=${crashes}`,
  `LOSSES=${losses}`,
  `TAKEOVERS=${takeovers}`,
];

const VARIANTS: Variant[] = [
  { name: 'the protocol, with a crash', switches: faults(1, 0, 0), breaks: null },
  { name: 'the protocol, with a lost request', switches: faults(0, 1, 0), breaks: null },
  { name: 'the protocol, with a zombie', switches: faults(0, 0, 1), breaks: null },
  { name: 'the protocol, with all three', switches: [], breaks: null, large: true },
  {
    name: 'expiring creates, without T1 and T2',
    switches: ['EXPIRING', 'NO_T1', 'NO_T2', ...faults(0, 1, 0)],
    breaks: null,
  },
  {
    name: 'the same, with all three',
    switches: ['EXPIRING', 'NO_T1', 'NO_T2'],
    breaks: null,
    large: true,
  },
  {
    name: 'without T1: a check that misses suspended time',
    switches: ['NO_T1', ...faults(0, 0, 1)],
    breaks: 'at most once',
  },
  { name: 'without T2: an effect at any time', switches: ['NO_T2'], breaks: 'at most once' },
  { name: 'without T3: a grace that is over too early', switches: ['NO_T3'], breaks: 'at most once' },
  { name: 'without T4: a list that lags for ever', switches: ['NO_T4'], breaks: 'at most once' },
  { name: 'without T5: a grace shorter than R + L', switches: ['NO_T5'], breaks: 'at most once' },
  { name: 'no deadline', switches: ['NO_DEADLINE', ...faults(0, 0, 1)], breaks: 'at most once' },
  { name: 'resend on time-out', switches: ['RESEND'], breaks: 'at most once' },
  { name: 'direct requeue on reclaim', switches: ['DIRECT_REQUEUE'], breaks: 'at most once' },
  {
    name: 'cancel without the run lock',
    switches: ['CANCEL_WITHOUT_LOCK', ...faults(0, 0, 0)],
    breaks: 'stop means stop',
  },
  {
    name: 'a retry that ignores cancel',
    switches: ['RETRY_IGNORES_CANCEL', ...faults(0, 0, 0)],
    breaks: 'a final run has no open attempt and no unfinished job',
  },
  {
    name: 'a run made final with an open attempt',
    switches: ['FINAL_WITH_OPEN'],
    breaks: 'a final run has no open attempt and no unfinished job',
  },
  { name: 'requeue behind the cursor', switches: ['REQUEUE_BEHIND_CURSOR'], breaks: 'every run ends' },
  { name: 'no reaper by deadline', switches: ['NO_REAPER'], breaks: 'every run ends' },
];

function run(tool: string, args: string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(tool, args, { cwd, encoding: 'utf8', maxBuffer: 64 * 1024 ** 2 });
  if (error) throw new Error(`${tool} could not be started: ${error.message}; it must be installed (spin, gcc)`);
  if (status !== 0) throw new Error(`${tool} failed: ${stdout}${stderr}`);
  return stdout;
}

/** Explores every state of one variant. Returns the violated assertion's text, or null, and how many states there are. */
function explore(switches: string[]): { violated: string | null; states: number; complete: boolean } {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'carillon-model-'));
  try {
    run('spin', [...switches.map((name) => `-D${name}`), '-a', MODEL], dir);
    const flags = ['-O2', '-w', '-DSAFETY', '-DCOLLAPSE', '-DVECTORSZ=2048', `-DMEMLIM=${MEMORY_MB}`];
    run('gcc', [...flags, '-o', 'pan', 'pan.c'], dir);
    const said = run('./pan', ['-m100000', '-w24', '-n'], dir);
    return {
      violated: /^pan:\d+: assertion violated (.*) \(at depth/m.exec(said)?.[1] ?? null,
      states: Number(/^\s*(\S+) states, stored/m.exec(said)?.[1] ?? Number.NaN),
      complete: /errors: \d+$/m.test(said) && !/max search depth too small|out of memory/.test(said),
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function asExpected({ breaks }: Variant, violated: string | null): boolean {
  if (breaks === null || violated === null) return breaks === violated;
  return ASSERTIONS[breaks].test(violated.replaceAll(' ', ''));
}

const quick = process.argv.includes('--quick');
let wrong = 0;
for (const variant of VARIANTS.filter(({ large }) => !(large && quick))) {
  const since = performance.now();
  const { violated, states, complete } = explore(variant.switches);
  const right = complete && asExpected(variant, violated);
  if (!right) wrong++;
  const outcome = violated === null ? 'holds' : `violates ${violated}`;
  const seconds = ((performance.now() - since) / 1000).toFixed(1);
  console.log(`${right ? 'ok   ' : 'WRONG'} ${variant.name}: ${outcome} (${states} states, ${seconds} s)`);
}
console.log(wrong === 0 ? 'all as expected' : `${wrong} not as expected`);
process.exitCode = wrong === 0 ? 0 : 1;
