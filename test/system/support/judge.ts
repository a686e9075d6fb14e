import type { LedgerEntry } from '@carillon/carrier-sim';
import { expect } from 'vitest';
import type { Installation, Tenant } from './installation.ts';

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

/** From the intent to the carrier: a start may be claimed 200 ms ahead of its time, and 50 ms are nobody's fault. */
const ON_TIME_US = 250_000;

/**
 * Looks at each second that ends with a call's creation: the most calls in any, and the seconds with more than 1.05 ×
 * rate + 2. Not counted there are calls that a machine with too much to do has held up: they come late, on top of those
 * whose time it is.
 */
export function startsPerSecond(
  ledger: readonly LedgerEntry[],
  attempts: readonly AttemptRow[],
  rate: number,
): { most: number; late: number; over: string[] } {
  const intents = new Map(attempts.map(({ call_id, intent_us }) => [call_id, intent_us]));
  const starts = ledger
    .map(({ sid, created_us }) => ({ at_us: created_us, late: created_us - (intents.get(sid) ?? 0) > ON_TIME_US }))
    .sort((a, b) => a.at_us - b.at_us);
  const over: string[] = [];
  let first = 0;
  let most = 0;
  for (const [last, { at_us }] of starts.entries()) {
    while ((starts[first]?.at_us ?? at_us) <= at_us - US_PER_S) first += 1;
    const second = starts.slice(first, last + 1);
    most = Math.max(most, second.length);
    const timely = second.filter(({ late }) => !late).length;
    if (timely > 1.05 * rate + 2)
      over.push(`${timely} on time, ${second.length} in all before ${new Date(at_us / 1_000).toISOString()}`);
  }
  return { most, late: starts.filter(({ late }) => late).length, over };
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
