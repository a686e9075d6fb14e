import { type BusinessId, Policy, type RunId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import { readBusiness } from '../business/business.ts';
import { type Database, inBusiness, type Tx } from '../db/database.ts';
import { GREETING } from '../run/create.ts';
import type { AdoptAccount } from './account.ts';
import { type Conclusion, concludeRun, noJobs } from './conclude.ts';
import type { TakenStatus } from './judge.ts';
import type { AdoptLimits } from './limits.ts';
import { type OldRun, readOldRun } from './old-rows.ts';
import type { Shape } from './shape.ts';
import { count, sample, type Tally } from './tally.ts';

export interface MakeContext {
  db: Database;
  business_id: BusinessId;
  adoption_id: number;
  account: AdoptAccount;
  /** What answers the calls of a run that goes on: the old tables do not say. */
  answer?: { say: string; language: string } | undefined;
  time_zone: string;
  shape: Shape['runs'];
  limits: AdoptLimits;
  actor: Actor;
}

export async function hasRunsToMake(db: Database, business_id: BusinessId, adoption_id: number): Promise<boolean> {
  const unmade = await inBusiness(db, business_id, (tx) =>
    tx.query(
      `SELECT 1 FROM carillon.adopted_runs
       WHERE business_id = $1 AND adoption_id = $2 AND made_at IS NULL LIMIT 1`,
      [business_id, adoption_id],
    ),
  );
  return unmade.length > 0;
}

/**
 * Makes the next of an adoption's runs with all of its jobs, in one transaction: nobody ever sees half a run, nor lets
 * one go on. False: all are made.
 */
export async function makeNextRun(context: MakeContext): Promise<boolean> {
  const { db, business_id, adoption_id } = context;
  return await inBusiness(db, business_id, async (tx) => {
    const [adoption] = await tx.query<{ tally: Tally }>(
      'SELECT tally FROM carillon.adoptions WHERE business_id = $1 AND adoption_id = $2 FOR UPDATE',
      [business_id, adoption_id],
    );
    const [noted] = await tx.query<{ old_run_id: number; run_id: RunId; text: string }>(
      `SELECT old_run_id, run_id, row::text AS text FROM carillon.adopted_runs
       WHERE business_id = $1 AND adoption_id = $2 AND made_at IS NULL ORDER BY old_run_id LIMIT 1`,
      [business_id, adoption_id],
    );
    if (!noted || !adoption) return false;
    const old = readOldRun({ id: noted.old_run_id, text: noted.text }, context.shape);
    const sorted = await countJobs(tx, noted.run_id);
    const conclusion = concludeRun(old, sorted.jobs);
    await tx.query("SELECT set_config('timezone', $1, true)", [context.time_zone]);
    await insertRun(tx, context, noted.run_id, old, sorted, conclusion);
    await copyJobs(tx, context.limits, noted.run_id, sorted.total, conclusion);
    tally(adoption.tally, old, sorted.jobs, conclusion, context.limits.adopt_samples_ids);
    tx.send(
      `UPDATE carillon.adopted_runs SET made_at = now()
       WHERE business_id = $1 AND adoption_id = $2 AND old_run_id = $3 AND made_at IS NULL`,
      [business_id, adoption_id, noted.old_run_id],
      1,
    );
    tx.send('UPDATE carillon.adoptions SET tally = $3::jsonb WHERE business_id = $1 AND adoption_id = $2', [
      business_id,
      adoption_id,
      JSON.stringify(adoption.tally),
    ]);
    return true;
  });
}

interface Sorted {
  jobs: Record<TakenStatus, number>;
  total: number;
  first_queued: number | null;
  last_change: string | null;
}

async function countJobs(tx: Tx, run_id: RunId): Promise<Sorted> {
  // The row without a status is that of all.
  const rows = await tx.query<{ status: TakenStatus | null; n: number; first: number; last_change: string | null }>(
    `SELECT status, count(*) AS n, min(seq) AS first, max(updated_at)::text AS last_change FROM carillon.adopted_jobs
     WHERE business_id = $1 AND run_id = $2 GROUP BY ROLLUP (status)`,
    [tx.business_id, run_id],
  );
  const jobs = noJobs();
  for (const row of rows) if (row.status !== null) jobs[row.status] = row.n;
  const all = rows.find((row) => row.status === null);
  return {
    jobs,
    total: all?.n ?? 0,
    first_queued: rows.find((row) => row.status === 'queued')?.first ?? null,
    last_change: all?.last_change ?? null,
  };
}

/** What becomes of the jobs' states with their run's: a run that ended makes nobody wait. */
export function settleJobs(jobs: Readonly<Record<TakenStatus, number>>, conclusion: Conclusion) {
  if (conclusion.cancel_queued === null) return jobs;
  return { ...jobs, queued: 0, cancelled: jobs.cancelled + jobs.queued };
}

/** Counts a run that is concluded, and its jobs. */
export function tally(
  into: Tally,
  old: OldRun,
  jobs: Readonly<Record<TakenStatus, number>>,
  conclusion: Conclusion,
  samples_ids: number,
): void {
  count(into.runs.became, conclusion.status);
  sample(into, `run_${conclusion.status}`, old.id, samples_ids);
  if (conclusion.unknown_status !== null) count(into.unknown_statuses.runs, conclusion.unknown_status);
  const became = settleJobs(jobs, conclusion);
  for (const status of Object.keys(became) as TakenStatus[]) count(into.jobs.became, status, became[status]);
}

async function insertRun(
  tx: Tx,
  context: MakeContext,
  run_id: RunId,
  old: OldRun,
  sorted: Sorted,
  conclusion: Conclusion,
): Promise<void> {
  const { total } = sorted;
  const jobs = settleJobs(sorted.jobs, conclusion);
  const stopped = conclusion.status === 'cancelled' || conclusion.status === 'failed';
  const final = conclusion.status !== 'paused';
  const { language } = await readBusiness(tx);
  // Beginning and end of a run that goes on are its own; one that ended without saying when ended with its last change.
  const ended_at = final ? (old.ended_at ?? old.updated_at ?? sorted.last_change) : null;
  tx.send(
    `INSERT INTO carillon.outbound_call_runs (business_id, run_id, name, status, carrier_account_id, concurrency, policy,
       answer, total_leads, filled_seq, claim_cursor, swept_seq, queued, completed, failed, cancelled, skipped,
       needs_review, control_epoch, cancel_requested_at, pause_reason, last_error, created_at, created_by,
       created_by_user_id, started_at, updated_at, ended_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13, $14, $15, $16, $17, 0,
       CASE WHEN $18 THEN coalesce($19::timestamptz, now()) END, $20, $21,
       coalesce($22::timestamptz, $23::timestamptz, now()), $24, $25, $23::timestamptz,
       coalesce($26::timestamptz, now()), CASE WHEN $27 THEN coalesce($19::timestamptz, now()) END)`,
    [
      tx.business_id,
      run_id,
      old.name ?? `Run ${old.id}`,
      conclusion.status,
      context.account.carrier_account_id,
      old.concurrency ?? context.account.concurrency_limit,
      JSON.stringify(Policy.parse({})),
      JSON.stringify(context.answer ?? GREETING[language]),
      total,
      final ? total + 1 : (sorted.first_queued ?? total + 1),
      stopped ? total : 0,
      jobs.queued,
      jobs.completed,
      jobs.failed,
      jobs.cancelled,
      jobs.skipped,
      jobs.needs_review,
      stopped,
      ended_at,
      conclusion.pause_reason,
      conclusion.last_error,
      old.created_at,
      old.started_at,
      context.actor.name,
      old.created_by_user_id,
      old.updated_at,
      final,
    ],
    1,
  );
  writeTrail(tx, context, run_id, old, total, conclusion);
}

/** The first event of its chain: it is made as what it is. */
function writeTrail(
  tx: Tx,
  { actor, account }: MakeContext,
  run_id: RunId,
  old: OldRun,
  total_leads: number,
  { status }: Conclusion,
): void {
  const { carrier_account_id } = account;
  const adopted = { old_run_id: old.id, old_status: old.status };
  trail(tx, actor, {
    action: 'run.created',
    subject: { type: 'run', id: run_id },
    after: { status, control_epoch: 0, total_leads, carrier_account_id, adopted },
  });
}

/** By number, some at a time: one statement for a million rows would run into the time that a statement may take. */
async function copyJobs(
  tx: Tx,
  limits: AdoptLimits,
  run_id: RunId,
  total: number,
  conclusion: Conclusion,
): Promise<void> {
  for (let after = 0; after < total; after += limits.adopt_copy_rows) {
    const to = Math.min(after + limits.adopt_copy_rows, total);
    tx.send(
      `INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id, status, last_outcome, reason,
         updated_at)
       SELECT $1, $2, seq, lead_id, CASE WHEN status = 'queued' AND $5::text IS NOT NULL THEN 'cancelled' ELSE status END,
         last_outcome, CASE WHEN status = 'queued' THEN $5::text ELSE reason END, coalesce(updated_at, now())
       FROM carillon.adopted_jobs
       WHERE business_id = $1 AND run_id = $2 AND seq > $3 AND seq <= $4 ORDER BY seq`,
      [tx.business_id, run_id, after, to, conclusion.cancel_queued],
      to - after,
    );
    // Waited for, so that they do not pile up in the connection.
    await tx.query('SELECT 1');
  }
}
