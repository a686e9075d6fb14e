import type { BusinessId, RunId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import type { Database, Tx } from '../db/database.ts';
import { databaseNow, inBusiness } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import type { RunRow } from '../run/row.ts';
import { applyEvidence, type Evidence, type EvidenceItem, type OpenAttempt, type Recorded } from './attempt.ts';
import { type ClosedAttempt, closeAttempts } from './close.ts';
import { recordLate } from './late.ts';
import { wantGone } from './unwanted.ts';

/** Evidence that may end an attempt and therefore needs the run's lock before the attempt's. */
function mayClose(evidence: Evidence): boolean {
  if (evidence.kind === 'call') return evidence.call.phase === 'ended';
  return evidence.kind !== 'accepted' && evidence.kind !== 'unknown';
}

/**
 * Records evidence about attempts of one run in one transaction: the run's lock where one may end, the attempts' rows
 * in the order of their keys, then every change at once. Fenced by each attempt's token alone.
 */
export async function recordEvidence(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  items: EvidenceItem[],
  limits: Limits,
): Promise<Recorded[]> {
  // What may finish jobs and the run has more at stake than a call id or a ringing phone.
  const name = items.some(({ evidence }) => mayClose(evidence)) ? 'settle' : 'record';
  const { recorded, late } = await inBusiness(db, business_id, name, (tx) => recordOpen(tx, run_id, items, limits));
  // What no open attempt speaks for is rare, and each case is looked into by itself.
  for (const index of late) {
    const item = items[index];
    if (item) recorded[index] = await inBusiness(db, business_id, 'late', (tx) => recordOneLate(tx, item, limits));
  }
  return recorded;
}

async function recordOneLate(tx: Tx, item: EvidenceItem, limits: Limits): Promise<Recorded> {
  const recorded = await recordLate(tx, item, limits);
  if (recorded !== 'reopened') return recorded;
  const again = await recordOpen(tx, item.key.run_id, [item], limits);
  return again.recorded[0] ?? 'nothing';
}

async function recordOpen(tx: Tx, run_id: RunId, items: EvidenceItem[], limits: Limits) {
  const closing = items.some(({ evidence }) => mayClose(evidence));
  const [runs, rows, now_us] = await Promise.all([
    closing ? lockRunIfThere(tx, run_id) : null,
    lockAttempts(
      tx,
      run_id,
      items.map(({ key }) => key.seq),
    ),
    databaseNow(tx),
  ]);
  const open = new Map<number, OpenAttempt>(rows.map((row) => [row.seq, row]));
  const changed = new Map<number, OpenAttempt>();
  const closed: ClosedAttempt[] = [];
  const late: number[] = [];
  const recorded = items.map(({ key, evidence, actor }, index): Recorded => {
    const attempt = open.get(key.seq);
    if (attempt?.token !== key.token) {
      late.push(index);
      return 'nothing';
    }
    const verdict = applyEvidence(attempt, evidence, now_us);
    if (verdict.kind === 'nothing') return 'nothing';
    if (verdict.kind === 'second_call') {
      wantGone(tx, attempt.carrier_account_id, verdict.call_id, 'a second call for one attempt');
      return 'unwanted';
    }
    if (verdict.kind === 'closed') {
      open.delete(key.seq);
      changed.delete(key.seq);
      closed.push({ ...verdict, actor });
    } else {
      open.set(key.seq, verdict.attempt);
      changed.set(key.seq, verdict.attempt);
    }
    return 'applied';
  });
  const run = runs?.[0];
  if (closed.length > 0 && !run) throw new Error(`open attempts without their run ${run_id}`);
  writeAttempts(tx, run_id, [...changed.values()]);
  if (run) await closeAttempts(tx, run, closed, now_us, limits);
  // Whatever shows the call first: its answer, a callback on its way, or its end.
  const after = new Map([...changed, ...closed.map(({ attempt }) => [attempt.seq, attempt] as const)]);
  const accepted = rows.find((row) => row.call_id === null && after.get(row.seq)?.call_id);
  const bringer = items.find(({ key }) => key.seq === accepted?.seq)?.actor;
  if (accepted && bringer) await trustLane(tx, accepted.carrier_account_id, bringer);
  return { recorded, late };
}

async function lockRunIfThere(tx: Tx, run_id: RunId): Promise<RunRow[]> {
  return await tx.query<RunRow>(
    'SELECT * FROM carillon.outbound_call_runs WHERE business_id = $1 AND run_id = $2 FOR NO KEY UPDATE',
    [tx.business_id, run_id],
  );
}

async function lockAttempts(tx: Tx, run_id: RunId, seqs: number[]): Promise<OpenAttempt[]> {
  return await tx.query<OpenAttempt>(
    `SELECT * FROM carillon.open_attempts WHERE business_id = $1 AND run_id = $2 AND seq = ANY ($3)
     ORDER BY business_id, run_id, seq FOR UPDATE`,
    [tx.business_id, run_id, seqs],
  );
}

function writeAttempts(tx: Tx, run_id: RunId, attempts: OpenAttempt[]): void {
  if (attempts.length === 0) return;
  const column = <T>(of: (attempt: OpenAttempt) => T) => attempts.map(of);
  tx.send(
    `UPDATE carillon.open_attempts o SET state = e.state, call_id = e.call_id, placed_us = e.placed_us,
       ringing_us = e.ringing_us, answered_us = e.answered_us, unknown_us = e.unknown_us, cause = e.cause,
       heard_us = e.heard_us
     FROM unnest($3::int[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::text[],
       $11::bigint[]) AS e (seq, state, call_id, placed_us, ringing_us, answered_us, unknown_us, cause, heard_us)
     WHERE o.business_id = $1 AND o.run_id = $2 AND o.seq = e.seq`,
    [
      tx.business_id,
      run_id,
      column((attempt) => attempt.seq),
      column((attempt) => attempt.state),
      column((attempt) => attempt.call_id),
      column((attempt) => attempt.placed_us),
      column((attempt) => attempt.ringing_us),
      column((attempt) => attempt.answered_us),
      column((attempt) => attempt.unknown_us),
      column((attempt) => attempt.cause),
      column((attempt) => attempt.heard_us),
    ],
    attempts.length,
  );
}

/** An accepted call closes the lane's breaker, unless a person has to, and has unknown refusals counted anew. */
async function trustLane(tx: Tx, carrier_account_id: number, actor: Actor): Promise<void> {
  const [was] = await tx.query<{ halted_reason: string | null; refusals_in_a_row: number }>(
    `WITH distrusted AS MATERIALIZED (
       SELECT halted_reason, refusals_in_a_row FROM carillon.lanes
       WHERE business_id = $1 AND carrier_account_id = $2 AND (refusals_in_a_row > 0 OR unlisted_refusals > 0 OR NOT trusted)
         AND (halted_reason IS NULL OR halted_until_us IS NOT NULL) FOR NO KEY UPDATE)
     UPDATE carillon.lanes l SET trusted = true, refusals_in_a_row = 0, unlisted_refusals = 0,
       halted_reason = NULL, halted_until_us = NULL
     FROM distrusted d WHERE l.business_id = $1 AND l.carrier_account_id = $2
     RETURNING d.halted_reason, d.refusals_in_a_row`,
    [tx.business_id, carrier_account_id],
  );
  if (was && was.refusals_in_a_row > 0)
    trail(tx, actor, {
      action: 'lane.resumed',
      subject: { type: 'carrier_account', id: carrier_account_id },
      before: { ...was },
      after: { halted_reason: null, refusals_in_a_row: 0 },
    });
}
