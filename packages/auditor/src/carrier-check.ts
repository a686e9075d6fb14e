import type { CarrierCall, CarrierCredentials, CarrierDrivers } from '@carillon/contract';
import { isoTime } from './invariants/audited.ts';
import type { Lane } from './invariants/lanes.ts';
import { type JobRecord, madeNoCall } from './rows.ts';
import type { Snapshot } from './snapshot.ts';
import type { Findings, Violation } from './types.ts';

/** The way to the carriers: the drivers, and who opens an account's secret. */
export interface CarrierAccess {
  drivers: CarrierDrivers;
  credentials(business_id: number, carrier_account_id: number): Promise<CarrierCredentials>;
  /** Pairs of numbers that the carriers are asked about in one business, at most: each is a request or more. */
  numbers_most: number;
}

/** Two numbers between which calls were made, and the attempts that made them. */
interface Pair {
  carrier_account_id: number;
  from: string;
  lead_id: number;
  /** The earliest intent. */
  since_us: number;
  placed: { run_id: number; seq: number; attempt_no: number; call_id: string; intent_us: number }[];
}

/** Gathers, within its bound, what the carrier is to be asked about. */
export function createCandidates(numbers_most: number) {
  const pairs = new Map<string, Pair>();
  let beyond = 0;
  return {
    add(run_id: number, job: JobRecord): void {
      for (const { attempt_no, carrier_account_id, from_number, lead_id, intent_us, call_id } of job.tries) {
        const name = `${carrier_account_id} ${from_number} ${lead_id}`;
        let pair = pairs.get(name);
        if (!pair && pairs.size >= numbers_most) {
          beyond += 1;
          continue;
        }
        if (!pair)
          pairs.set(name, (pair = { carrier_account_id, from: from_number, lead_id, since_us: intent_us, placed: [] }));
        pair.since_us = Math.min(pair.since_us, intent_us);
        if (call_id !== null) pair.placed.push({ run_id, seq: job.seq, attempt_no, call_id, intent_us });
      }
    },
    pairs: () => [...pairs.values()],
    /** Attempts that are not asked about. */
    beyond: () => beyond,
  };
}
export type Candidates = ReturnType<typeof createCandidates>;

const ASKED_AT_ONCE = 4;
/** How far the carrier's clock and the database's may differ. */
const SKEW_US = 60_000_000;
const HOUR_MS = 3_600_000;

export interface CarrierScope {
  business_id: number;
  lanes: ReadonlyMap<number, Lane>;
  /** Of the database, before anything was asked. */
  now_us: number;
  findings: Findings;
  access: CarrierAccess;
  /** Reads in a new snapshot: what was committed meanwhile explains what was called meanwhile. */
  again<T>(work: (snapshot: Snapshot) => Promise<T>): Promise<T>;
}

const PHONES = `
  SELECT lead_id, phone,
    CASE WHEN updated_at > created_at THEN (extract(epoch FROM updated_at + interval '1 minute') * 1000000)::bigint
      ELSE 0 END AS since_us
  FROM carillon.leads WHERE business_id = $1 AND lead_id = ANY ($2) AND phone IS NOT NULL`;

/** A lead's number, and since when it certainly was that (a change takes effect when it commits, a little later). */
interface Phone {
  lead_id: number;
  phone: string;
  since_us: number;
}

/** All attempts for these leads, in whichever run: a call between two numbers may be another run's. */
const CALLS_OF_LEADS = `
  SELECT j.lead_id, a.call_id, a.outcome FROM carillon.outbound_call_runs r
  JOIN carillon.outbound_call_jobs j ON j.business_id = $1 AND j.run_id = r.run_id AND j.lead_id = ANY ($2)
  JOIN carillon.attempts a ON a.business_id = $1 AND a.run_id = j.run_id AND a.seq = j.seq
  WHERE r.business_id = $1
  UNION ALL
  SELECT lead_id, call_id, NULL FROM carillon.open_attempts WHERE business_id = $1 AND lead_id = ANY ($2)`;

/**
 * Invariant 2 by the carrier's own list, within the bound of requests: each listed call between two numbers, since the
 * first attempt between them, belongs to an attempt; each attempt that names a call has it there. Where the lead's number
 * was changed or erased since, nothing can be looked for by it, and the named calls are asked for by their names. What
 * can't be asked is reported as not compared. No transaction is open while a carrier is asked.
 */
export async function checkCarrier(scope: CarrierScope, candidates: Candidates): Promise<void> {
  const { findings, business_id } = scope;
  const pairs = candidates.pairs();
  if (candidates.beyond() > 0)
    findings.incomplete({
      invariant: 2,
      business_id,
      what: `The carrier was asked about ${pairs.length} pairs of numbers; ${candidates.beyond()} attempts lie beyond that bound`,
    });
  if (pairs.length === 0) return;
  const leads = [...new Set(pairs.map(({ lead_id }) => lead_id))];
  const rows = await scope.again((snapshot) => snapshot.query<Phone>(PHONES, [business_id, leads]));
  const phones = new Map(rows.map((row) => [row.lead_id, row]));
  const strays: { pair: Pair; call: CarrierCall }[] = [];
  for (const [account, mine] of Map.groupBy(pairs, ({ carrier_account_id }) => carrier_account_id)) {
    const asked = await openAccount(scope, account, mine.length);
    if (!asked) continue;
    const queue = mine.values();
    const line = async () => {
      for (const pair of queue) strays.push(...(await comparePair(scope, asked, pair, phones.get(pair.lead_id))));
    };
    await Promise.all(Array.from({ length: ASKED_AT_ONCE }, line));
  }
  if (strays.length > 0) await judgeStrays(scope, strays);
}

type Asked = Awaited<ReturnType<typeof openAccount>> & object;

async function openAccount({ access, lanes, findings, business_id }: CarrierScope, account: number, pairs: number) {
  const driver = access.drivers.get(lanes.get(account)?.driver ?? '');
  const notCompared = (why: string) =>
    findings.incomplete({
      invariant: 2,
      business_id,
      what: `${pairs} pairs of numbers of carrier account ${account} could not be compared: ${why}`,
    });
  if (!driver) return void notCompared(`no driver is called "${lanes.get(account)?.driver}"`);
  try {
    return { driver, credentials: await access.credentials(business_id, account) };
  } catch (error) {
    return void notCompared(error instanceof Error ? error.message : String(error));
  }
}

/** Reports what is missing; returns the listed calls that are none of the pair's known ones. */
async function comparePair(scope: CarrierScope, { driver, credentials }: Asked, pair: Pair, to: Phone | undefined) {
  const { findings, business_id, now_us } = scope;
  const notCompared = (why: string) => {
    const what = `The calls to lead ${pair.lead_id} could not be compared: ${why}`;
    findings.incomplete({ invariant: 2, business_id, what });
    return [];
  };
  const calls: CarrierCall[] = [];
  const searched = to !== undefined && to.since_us <= pair.since_us;
  if (searched) {
    const listed = await driver.find(credentials, {
      to: to.phone,
      from: pair.from,
      created_from_ms: (pair.since_us - SKEW_US) / 1_000,
      created_to_ms: now_us / 1_000 + HOUR_MS,
    });
    if (listed.kind === 'error') return notCompared(listed.cause);
    calls.push(...listed.calls);
  }
  findings.checked.carrier_numbers += 1;
  const ids = new Set(calls.map(({ call_id }) => call_id));
  const lag_us = driver.capabilities(credentials).listing_delay_ms * 1_000;
  for (const one of pair.placed) {
    if (ids.has(one.call_id)) continue;
    // Too young to be listed for certain, it may still be asked for by its name.
    const seen = await driver.fetchCall(credentials, one.call_id);
    if (seen.kind === 'error') notCompared(seen.cause);
    else if (seen.kind === 'absent') findings.violation(noSuchCall(business_id, one));
    else if (searched && one.intent_us + lag_us + SKEW_US < now_us) findings.violation(otherCall(business_id, one));
  }
  const known = new Set(pair.placed.map(({ call_id }) => call_id));
  const since_s = Math.floor(pair.since_us / 1_000_000);
  return calls
    .filter(({ call_id, created_at_s }) => !known.has(call_id) && (created_at_s === null || created_at_s >= since_s))
    .map((call) => ({ pair, call }));
}

function noSuchCall(business_id: number, one: Pair['placed'][number]): Violation {
  return ofAttempt(business_id, one, `names call ${one.call_id}, which the carrier does not have`);
}

function otherCall(business_id: number, one: Pair['placed'][number]): Violation {
  return ofAttempt(business_id, one, `names call ${one.call_id}, which is not between its two numbers`);
}

function ofAttempt(business_id: number, one: Pair['placed'][number], what: string): Violation {
  const { run_id, seq, attempt_no, call_id, intent_us } = one;
  const job_id = `${run_id}-${seq}`;
  return {
    invariant: 2,
    business_id,
    run_id,
    job_id,
    attempt: attempt_no,
    what: `Attempt ${attempt_no} of job ${job_id} ${what}`,
    evidence: { call_id, intent_us },
  };
}

/**
 * Listed calls that no attempt names, looked up once more: another run may have made them, or their attempt may have
 * learned of them by now, or may be waiting to.
 */
async function judgeStrays(scope: CarrierScope, strays: { pair: Pair; call: CarrierCall }[]): Promise<void> {
  const { business_id, findings } = scope;
  const leads = [...new Set(strays.map(({ pair }) => pair.lead_id))];
  type Row = { lead_id: number; call_id: string | null; outcome: Parameters<typeof madeNoCall>[0] };
  const rows = await scope.again((snapshot) => snapshot.query<Row>(CALLS_OF_LEADS, [business_id, leads]));
  const named = new Set(rows.map(({ call_id }) => call_id));
  const waiting = new Map<number, number>();
  for (const { lead_id, call_id, outcome } of rows)
    if (call_id === null && !madeNoCall(outcome)) waiting.set(lead_id, (waiting.get(lead_id) ?? 0) + 1);
  for (const { pair, call } of strays) {
    if (named.has(call.call_id)) continue;
    const left = waiting.get(pair.lead_id) ?? 0;
    waiting.set(pair.lead_id, left - 1);
    if (left > 0) continue;
    const when = call.created_at_s === null ? '' : ` of ${isoTime(call.created_at_s * 1_000_000)}`;
    findings.violation({
      invariant: 2,
      business_id,
      what: `Call ${call.call_id}${when} to lead ${pair.lead_id} is in the carrier's list and belongs to no attempt`,
      evidence: { call_id: call.call_id, lead_id: pair.lead_id, carrier_account_id: pair.carrier_account_id },
    });
  }
}

export const CARRIER_STATEMENTS = { PHONES, CALLS_OF_LEADS };
