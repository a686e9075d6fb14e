import type { AuditReport } from '@carillon/auditor';
import type { LedgerEntry } from '@carillon/carrier-sim';
import { expect } from 'vitest';
import type { Installation, Tenant } from './installation.ts';
import { carillon } from './processes.ts';
import type { watchCounters } from './watcher.ts';

const US_PER_S = 1_000_000;

/** By the carrier's books: every lead of the tenant was called, and none twice. */
export async function expectOneCallEach(here: Installation, tenant: Tenant): Promise<LedgerEntry[]> {
  const ledger = await here.ledger(tenant);
  const byNumber = Map.groupBy(ledger, ({ to }) => to);
  const twice = [...byNumber].filter(([, calls]) => calls.length > 1);
  expect(twice.map(([to, calls]) => [to, calls.map(({ created_at, status }) => `${created_at} ${status}`)])).toEqual(
    [],
  );
  expect(byNumber.size).toBe(tenant.leads);
  return ledger;
}

/** The most instants in any span that ends with one of them. `instants` ascend. */
function mostIn(span_us: number, instants: readonly number[]): number {
  let first = 0;
  let most = 0;
  for (const [last, at_us] of instants.entries()) {
    while ((instants[first] ?? at_us) <= at_us - span_us) first += 1;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

/**
 * A lane's starts, as the carrier saw them, beside the times that its rate gives them: each attempt's start lies one
 * interval behind the one before it, and not before its intent. `earliest_ms`: how long before its time the hastiest
 * call began (after: negative). Late calls are nobody's fault: a machine with more to do than it can holds them up, and
 * they arrive in a heap, on top of those whose time it is.
 */
export function startsOf(ledger: readonly LedgerEntry[], lane: readonly AttemptRow[], rate: number) {
  const created = new Map(ledger.map(({ sid, created_us }) => [sid, created_us]));
  // Those of one claim have one intent; jobs that were tried before come first in it.
  const order = lane.toSorted((a, b) => a.intent_us - b.intent_us || b.attempt_no - a.attempt_no || a.seq - b.seq);
  let next_us = 0;
  let earliest_us = Number.NEGATIVE_INFINITY;
  for (const { intent_us, call_id } of order) {
    const planned_us = Math.max(next_us, intent_us);
    next_us = planned_us + US_PER_S / rate;
    earliest_us = Math.max(earliest_us, planned_us - (created.get(call_id ?? '') ?? planned_us));
  }
  const instants = [...created.values()].sort((a, b) => a - b);
  return {
    per_second: mostIn(US_PER_S, instants),
    per_ten_seconds: mostIn(10 * US_PER_S, instants),
    earliest_ms: earliest_us / 1_000,
  };
}

/** An attempt, open or closed, as far as the tests ask. */
export interface AttemptRow {
  seq: number;
  attempt_no: number;
  worker_id: string;
  lease_epoch: number;
  intent_us: number;
  call_id: string | null;
  /** `open`, or how it ended. */
  outcome: string;
}

/** Every attempt that was ever committed for a run, in the order of their intents. */
export async function attemptsOf(here: Installation, run_id: number): Promise<AttemptRow[]> {
  return await here.rows<AttemptRow>(
    `SELECT seq, attempt_no, worker_id, lease_epoch, intent_us, call_id, 'open' AS outcome
     FROM carillon.open_attempts WHERE run_id = $1
     UNION ALL
     SELECT * FROM (
       SELECT DISTINCT ON (seq, attempt_no) seq, attempt_no, worker_id, lease_epoch, intent_us, call_id, outcome
       FROM carillon.attempts WHERE run_id = $1 ORDER BY seq, attempt_no, revision DESC) closed
     ORDER BY intent_us, seq`,
    [run_id],
  );
}

/** Now, by the database's clock, in microseconds since 1970. */
export async function databaseNow(here: Installation): Promise<number> {
  const [row] = await here.rows<{ now_us: number }>(
    'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us',
  );
  return row?.now_us ?? 0;
}

/** The run's counters and its cursor_position were what its rows give, at every commit that the watcher saw. */
export async function expectRightCounters(stopWatching: ReturnType<typeof watchCounters>): Promise<number> {
  const { moments, differing } = await stopWatching();
  expect(differing).toEqual([]);
  return moments;
}

/** Every invariant holds for everything that was done here, by the rows and by the carrier's own ledger. */
export async function expectAudited(here: Installation): Promise<void> {
  const report = JSON.parse(await carillon(['audit', '--json', '--ledger', here.carrierUrl], here.env)) as AuditReport;
  expect(report).toMatchObject({ ok: true, violations: [], incomplete: [] });
  const { runs, jobs, attempts, ledger_calls } = report.checked;
  console.log(`audited: ${runs} runs, ${jobs} jobs, ${attempts} attempts, ${ledger_calls} calls of the ledger`);
}
