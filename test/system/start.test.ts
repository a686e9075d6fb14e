import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Run } from '@carillon/contract';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { until } from '../support/wait.ts';
import { type Environment, type Running, startCarillon } from './support/processes.ts';

/** What a kill leaves behind is settled within seconds instead of a minute. */
const QUICK: Environment = {
  CARILLON_LEASE_TTL_MS: '2000',
  CARILLON_DIAL_DEADLINE_MS: '1000',
  CARILLON_CARRIER_EFFECT_DELAY_MS: '1000',
  CARILLON_CARRIER_LISTING_DELAY_MS: '300',
  CARILLON_RECONCILE_MARGIN_MS: '700',
  CARILLON_RECONCILE_EVERY_MS: '300',
  CARILLON_POLL_AFTER_MS: '1000',
  CARILLON_POLL_WORK_MS: '100',
};

let directory: string;
let data: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'carillon-start-'));
  data = path.join(directory, 'data');
});
afterEach(async () => {
  for (const pid of treeOf(await postmaster())) killIfThere(pid);
  await rm(directory, { recursive: true, force: true });
});

async function leadsFile(lines: readonly string[]): Promise<string> {
  const file = path.join(directory, 'leads.csv');
  await writeFile(file, ['phone,name', ...lines].join('\n'));
  return file;
}

function start(file: string, ...more: string[]): Running {
  return startCarillon(['start', '--data', data, '--leads', file, ...more], QUICK);
}

const LedgerLine = z.object({ type: z.string(), request: z.object({ to: z.string() }).optional() });

/** The numbers called, in order, from the simulated carrier's ledger file. */
async function called(): Promise<string[]> {
  const text = await readFile(path.join(data, 'carrier-ledger.ndjson'), 'utf8').catch(() => '');
  // A kill may have cut the last line short; what is not whole did not happen.
  const lines = text.split('\n').slice(0, -1);
  return lines.flatMap((line) => LedgerLine.parse(JSON.parse(line)).request?.to ?? []);
}

async function calls(running: Running, at_least: number): Promise<void> {
  await until(async () => (await called()).length >= at_least, {
    deadline_ms: 40_000,
    every_ms: 50,
    what: `${at_least} calls in the ledger`,
  }).catch((cause: unknown) => {
    throw new Error(`carillon start said: ${running.stdout()}${running.stderr()}`, { cause });
  });
}

async function postmaster(): Promise<number> {
  const text = await readFile(path.join(data, 'postgres', 'postmaster.pid'), 'utf8').catch(() => '');
  return Number(text.split('\n')[0]) || 0;
}

/** A process and all below it. */
function treeOf(root: number): number[] {
  if (root === 0) return [];
  const table = execFileSync('ps', ['-eo', 'pid=,ppid='], { encoding: 'utf8' });
  const rows = table
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  const below = (parent: number): number[] =>
    rows.filter(([, ppid]) => ppid === parent).flatMap(([pid = 0]) => [pid, ...below(pid)]);
  return [root, ...below(root)];
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It went with its parent.
  }
}

/** As when the machine loses its power: everything at once, the database's processes too. */
async function killTree(running: Running): Promise<void> {
  const pids = [...treeOf(running.pid), ...treeOf(await postmaster())];
  for (const pid of pids) killIfThere(pid);
  await running.kill();
}

const Verdict = z.strictObject({
  ok: z.boolean(),
  lines: z.number(),
  accepted: z.number(),
  duplicates: z.number(),
  rejected: z.number(),
  run: Run,
  carrier: z.strictObject({ calls: z.number(), numbers: z.number() }),
});

/** Starts with `--exit --json` and reads the one object that is printed. */
async function startToTheEnd(
  file: string,
): Promise<{ code: number | NodeJS.Signals; verdict: z.infer<typeof Verdict> }> {
  const running = start(file, '--exit', '--json');
  const code = await running.ended;
  await running.kill();
  const [object = '', rest] = running.stdout().split('\n');
  expect(rest, running.stderr()).toBe('');
  return { code, verdict: Verdict.parse(JSON.parse(object)) };
}

/** Moments of a start-up, each known by something that can be seen. */
const MOMENTS: Record<string, (running: Running) => unknown> = {
  'the cluster is being made': (running) => running.stdout().includes('Creating the embedded database'),
  'the database comes up': () => postmaster(),
  'the simulated carrier comes up': (running) =>
    programsBelow(running.pid).some((args) => args.includes('carrier-sim')),
  'everything is up': (running) => running.stdout().includes('Carillon is running'),
};

/** The command lines of what a process has started. */
function programsBelow(pid: number): string[] {
  const table = execFileSync('ps', ['-ww', '-eo', 'ppid=,args='], { encoding: 'utf8' });
  return table.split('\n').filter((line) => Number(line.trim().split(/\s+/)[0]) === pid);
}

describe('Ctrl-C in the middle of the start-up', () => {
  it.each(Object.entries(MOMENTS))(
    'when %s is a clean stop',
    async (what, moment) => {
      const file = await leadsFile(['052-300-1000,Somebody']);
      const running = start(file, '--port', '0');
      await until(() => moment(running), { deadline_ms: 60_000, every_ms: 5, what });
      running.signal('SIGINT');
      expect(await running.ended, running.stderr()).toBe(0);
      expect(running.stderr()).toBe('');
      expect(running.stdout()).toContain('Stopped.');
      expect(treeOf(await postmaster())).toEqual([]);
      expect(programsAt(data)).toEqual([]);
    },
    90_000,
  );
});

/** What still runs on a data directory. */
function programsAt(directory: string): string[] {
  const table = execFileSync('ps', ['-ww', '-eo', 'args='], { encoding: 'utf8' });
  return table.split('\n').filter((line) => line.includes(directory));
}

describe('carillon start', () => {
  it('with --exit --json accounts for every line, every lead and every call', async () => {
    const people = Array.from({ length: 40 }, (_, i) => `052-300-${String(1000 + i)},Person ${i}`);
    const file = await leadsFile([...people, '+972 52 300 1000,Twice', '0523001001,Twice as well', '12,Nobody']);
    const { code, verdict } = await startToTheEnd(file);
    expect(verdict).toMatchObject({ ok: true, lines: 43, accepted: 40, duplicates: 2, rejected: 1 });
    expect(code).toBe(0);
    const { run, carrier } = verdict;
    expect(run).toMatchObject({ status: 'completed', total_leads: 40, cursor_position: 40, needs_review: 0 });
    expect(run.completed + run.failed).toBe(40);
    expect(carrier).toEqual({ calls: 40, numbers: 40 });
    const numbers = await called();
    expect(numbers.toSorted()).toEqual(people.map((_, i) => `+97252300${1000 + i}`).toSorted());
  });

  it('goes on where it was after Ctrl-C and after kill -9 of the whole tree, and calls nobody twice', async () => {
    const leads = 500;
    const file = await leadsFile(Array.from({ length: leads }, (_, i) => `+97252${3_000_000 + i},Person ${i}`));

    const killed = start(file);
    await calls(killed, 80);
    await killTree(killed);
    const before = await called();

    const interrupted = start(file);
    await calls(interrupted, before.length + 100);
    expect(interrupted.stdout()).toContain('Going on with run');
    interrupted.signal('SIGINT');
    expect(await interrupted.ended).toBe(0);
    const between = await called();
    expect(between.length).toBeLessThan(leads);
    expect(treeOf(await postmaster())).toEqual([]);

    const { code, verdict } = await startToTheEnd(file);
    expect(verdict).toMatchObject({
      ok: true,
      lines: leads,
      accepted: leads,
      carrier: { calls: leads, numbers: leads },
    });
    expect(code).toBe(0);
    const numbers = await called();
    expect(numbers.slice(0, between.length)).toEqual(between);
    const times = Map.groupBy(numbers, (number) => number);
    expect([...times].filter(([, all]) => all.length > 1).map(([number]) => number)).toEqual([]);
    expect(times.size).toBe(leads);
    console.log(`calls: ${before.length} before kill -9, ${between.length} before Ctrl-C, ${numbers.length} in all`);
  }, 120_000);
});
