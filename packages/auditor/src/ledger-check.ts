import type { CallbackPath, Outcome } from '@carillon/contract';
import { isoTime } from './invariants/audited.ts';
import type { Lane } from './invariants/lanes.ts';
import type { LedgerCall } from './ledger.ts';
import { madeNoCall } from './rows.ts';
import type { Snapshot } from './snapshot.ts';
import type { Findings, Violation } from './types.ts';

/** What the snapshot says of the jobs that were audited in it. */
export interface Placed {
  /** How many attempts of each job name a call, by the job's number; by run. */
  byRun: ReadonlyMap<number, Uint8Array>;
}

export interface LedgerScope {
  snapshot: Snapshot;
  lanes: ReadonlyMap<number, Lane>;
  /** Businesses that have runs: a call that names another one is nobody's. */
  known: ReadonlySet<number>;
  /** Only this run's calls are looked at. */
  run_id: number | null;
  findings: Findings;
}

interface Known {
  i: number;
  token: string;
  call_id: string | null;
  outcome: Outcome | null;
  account_sid: string;
  from_number: string;
  /** Where it was to go; null when the lead's number was changed or erased since. */
  phone: string | null;
  /** A call that is on record as unwanted and being hung up. */
  unwanted: boolean;
}

const KNOWN = `
  SELECT k.i, a.token, a.call_id, a.outcome, c.account_sid, a.from_number, coalesce(a.to_number, l.phone) AS phone,
    EXISTS (SELECT FROM carillon.unwanted_calls u WHERE u.business_id = $1
            AND u.carrier_account_id = a.carrier_account_id AND u.call_id = k.sid AND u.over_at IS NULL) AS unwanted
  FROM unnest($2::bigint[], $3::int[], $4::int[], $5::text[]) WITH ORDINALITY AS k (run_id, seq, attempt_no, sid, i)
  CROSS JOIN LATERAL (
    SELECT token, call_id, outcome, carrier_account_id, from_number, NULL AS to_number, lead_id, intent_us, revision
    FROM carillon.attempts
    WHERE business_id = $1 AND run_id = k.run_id AND seq = k.seq AND attempt_no = k.attempt_no
    UNION ALL
    SELECT token, call_id, NULL, carrier_account_id, from_number, to_number, lead_id, intent_us, revision
    FROM carillon.open_attempts
    WHERE business_id = $1 AND run_id = k.run_id AND seq = k.seq AND attempt_no = k.attempt_no
    ORDER BY revision DESC LIMIT 1) a
  JOIN carillon.carrier_accounts c ON c.business_id = $1 AND c.carrier_account_id = a.carrier_account_id
  LEFT JOIN LATERAL (
    SELECT phone FROM carillon.leads WHERE business_id = $1 AND lead_id = a.lead_id
      AND (updated_at = created_at OR updated_at <= to_timestamp(a.intent_us / 1000000.0) - interval '1 minute')
    OFFSET 0) l ON true
  ORDER BY k.i`;

const BATCH_CALLS = 1_000;
const ASKED_AGAIN_CALLS = 10_000;

/** A ledger's call with the attempt that it names. */
type Named = LedgerCall & { attempt: CallbackPath };

/**
 * Invariant 2 by the simulated carrier's own ledger, exactly: each call was made for one attempt, which knows it; each
 * attempt that names a call has it in the ledger. Invariant 5 at the carrier: calls live at once.
 *
 * The ledger is read after the snapshot was taken, so every call of the snapshot is in it. Calls whose attempts the
 * snapshot does not know are handed back: they are to be looked up again in a newer one, an intent being committed
 * before anything is dialled.
 */
export async function checkLedger(
  scope: LedgerScope,
  ledger: AsyncIterable<LedgerCall>,
  placed: Placed,
): Promise<Named[]> {
  const { findings, snapshot } = scope;
  const accounts = new Set([...scope.lanes.values()].map(({ account_sid }) => account_sid));
  const live = createLiveJudge(scope);
  const later: Named[] = [];
  let batch: Named[] = [];
  const flush = async () => {
    later.push(...(await judgeCalls(snapshot, batch, findings, placed)));
    batch = [];
    if (later.length > ASKED_AGAIN_CALLS) {
      findings.incomplete({
        invariant: 2,
        business_id: snapshot.business_id,
        what: `More than ${ASKED_AGAIN_CALLS} calls of the ledger belong to no attempt that the database knows`,
      });
      later.length = ASKED_AGAIN_CALLS;
    }
  };
  for await (const call of ledger) {
    const { attempt } = call;
    if (attempt && attempt.business_id === snapshot.business_id) {
      for (const violation of live.take({ ...call, attempt })) findings.violation(violation);
      if (scope.run_id !== null && attempt.run_id !== scope.run_id) continue;
      findings.checked.ledger_calls += 1;
      batch.push({ ...call, attempt });
      if (batch.length === BATCH_CALLS) await flush();
    } else if (
      scope.run_id === null &&
      accounts.has(call.account) &&
      !(attempt && scope.known.has(attempt.business_id))
    ) {
      findings.checked.ledger_calls += 1;
      findings.violation(stray(snapshot.business_id, call));
    }
  }
  await flush();
  for (const violation of missing(snapshot.business_id, placed)) findings.violation(violation);
  return later;
}

/** Judges calls by the attempts that they name; returns those whose attempts are not known here. */
async function judgeCalls(snapshot: Snapshot, calls: readonly Named[], findings: Findings, placed: Placed) {
  if (calls.length === 0) return [];
  const column = <T>(of: (call: Named) => T) => calls.map(of);
  const rows = await snapshot.query<Known>(KNOWN, [
    snapshot.business_id,
    column(({ attempt }) => attempt.run_id),
    column(({ attempt }) => attempt.seq),
    column(({ attempt }) => attempt.attempt_no),
    column(({ sid }) => sid),
  ]);
  const known = new Map(rows.map((row) => [row.i - 1, row]));
  return calls.filter((call, index) => {
    const row = known.get(index);
    if (row?.token !== call.attempt.token) return true;
    const why = whyWrong(call, row);
    if (why) findings.violation(callViolation(snapshot.business_id, call, why, { outcome: row.outcome }));
    // What is left when the ledger is through are attempts whose call it does not have.
    const counts = placed.byRun.get(call.attempt.run_id);
    if (counts && row.call_id === call.sid) counts[call.attempt.seq] = Math.max(0, (counts[call.attempt.seq] ?? 0) - 1);
    return false;
  });
}

function whyWrong(call: LedgerCall, known: Known): string | null {
  if (known.call_id !== null && known.call_id !== call.sid) return `names another call, ${known.call_id}`;
  if (known.call_id === null && madeNoCall(known.outcome) && !known.unwanted)
    return `is ${known.outcome}, and the carrier made a call for it`;
  if (known.account_sid !== call.account) return 'was to go through another account than the carrier says';
  if (known.from_number !== call.from) return 'was to come from another number than the carrier says';
  if (known.phone !== null && known.phone !== call.to) return 'was to go to another number than the carrier says';
  return null;
}

/** The calls that no snapshot so far could explain, in a newer one: what is left belongs to no attempt. */
export async function checkAgain(snapshot: Snapshot, calls: readonly Named[], findings: Findings): Promise<void> {
  const nothing: Placed = { byRun: new Map() };
  for (let from = 0; from < calls.length; from += BATCH_CALLS)
    for (const call of await judgeCalls(snapshot, calls.slice(from, from + BATCH_CALLS), findings, nothing))
      findings.violation(stray(snapshot.business_id, call));
}

function stray(business_id: number, call: LedgerCall): Violation {
  const { sid, account, created_us, attempt } = call;
  const names = attempt ? `attempt ${attempt.attempt_no} of job ${attempt.run_id}-${attempt.seq}` : 'no attempt at all';
  const ids = attempt?.business_id === business_id && {
    run_id: attempt.run_id,
    job_id: `${attempt.run_id}-${attempt.seq}`,
    attempt: attempt.attempt_no,
  };
  return {
    invariant: 2,
    business_id,
    ...ids,
    what: `Call ${sid} of ${isoTime(created_us)} at the carrier belongs to no attempt: it names ${names}`,
    evidence: { call_id: sid, account_sid: account, created_us },
  };
}

function callViolation(
  business_id: number,
  { sid, created_us, attempt }: Named,
  why: string,
  evidence: Record<string, unknown>,
): Violation {
  const job_id = `${attempt.run_id}-${attempt.seq}`;
  return {
    invariant: 2,
    business_id,
    run_id: attempt.run_id,
    job_id,
    attempt: attempt.attempt_no,
    what: `Attempt ${attempt.attempt_no} of job ${job_id}, for which the carrier has call ${sid}, ${why}`,
    evidence: { call_id: sid, created_us, ...evidence },
  };
}

function* missing(business_id: number, { byRun }: Placed): Generator<Violation> {
  for (const [run_id, counts] of byRun)
    for (const [seq, left] of counts.entries())
      if (left > 0)
        yield {
          invariant: 2,
          business_id,
          run_id,
          job_id: `${run_id}-${seq}`,
          what: `Job ${run_id}-${seq} has ${left === 1 ? 'an attempt that names a call' : `${left} attempts that name calls`} which the carrier does not have`,
          evidence: { missing: left },
        };
}

/** At most as many calls live at the carrier as the lane has lines, by the carrier's own clock. */
function createLiveJudge({ lanes, snapshot }: LedgerScope) {
  const ends = new Map<number, number[]>();
  return {
    *take(call: Named): Generator<Violation> {
      const { created_us, ended_us, attempt } = call;
      const lane = lanes.get(attempt.carrier_account_id);
      // The simulator's own file says when calls ended on lines that come later.
      if (!lane || ended_us === undefined) return;
      const living = (ends.get(lane.carrier_account_id) ?? []).filter((end) => end > created_us);
      living.push(ended_us ?? Infinity);
      ends.set(lane.carrier_account_id, living);
      if (living.length > lane.concurrency_limit)
        yield {
          ...callViolation(snapshot.business_id, call, '', {}),
          invariant: 5,
          what: `With call ${call.sid}, begun at ${isoTime(created_us)}, ${living.length} calls were live at the carrier; the limit of carrier account ${lane.carrier_account_id} is ${lane.concurrency_limit}`,
          evidence: { call_id: call.sid, created_us, live: living.length, limit: lane.concurrency_limit },
        };
    },
  };
}

export const LEDGER_STATEMENTS = { KNOWN };
