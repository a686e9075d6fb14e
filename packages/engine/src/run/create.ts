import { createHash } from 'node:crypto';
import type { BusinessId, FromRun, Run, RunId, StartRun } from '@carillon/contract';
import { CarillonError, Policy } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness, violatedConstraint } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { fill } from './fill.ts';
import { fixFromRun, likeEarlier } from './follow-up.ts';
import { readRun } from './read.ts';

/**
 * Creates a run, all of it or nothing. With an idempotency key the same request gets the run that it made before,
 * whatever has become of it since.
 *
 * A list's leads are fixed here by their number, those of an earlier run by their ids; their job rows follow in batches
 * (see `fill`), the first of them in this transaction, so that a run over a million leads answers at once.
 *
 * Throws `list_not_found`, `list_empty`, `lead_not_found`, `duplicate_lead`, `idempotency_conflict`, `run_not_found`,
 * `follow_up_empty`, `no_carrier_account`, `carrier_account_ambiguous`, `carrier_account_not_found`.
 */
export async function createRun(
  db: Database,
  business_id: BusinessId,
  request: StartRun,
  options: { actor: Actor; idempotency_key?: string | undefined; limits: Limits },
): Promise<{ run: Run; created: boolean }> {
  const request_hash = createHash('sha256').update(JSON.stringify(request)).digest('hex');
  try {
    return await inBusiness(db, business_id, 'create', async (tx) => {
      const earlier = options.idempotency_key ? await findByKey(tx, options.idempotency_key, request_hash) : null;
      if (earlier) return { run: await readRun(tx, earlier), created: false };
      const wanted = request.from_run ? await likeEarlier(tx, request, request.from_run.run_id) : request;
      const lane = await chooseLane(tx, wanted.carrier_account_id);
      const run_id = await insertRun(tx, wanted, lane, options, request_hash);
      if (!run_id) return await createdMeanwhile(tx, options.idempotency_key ?? '', request_hash);
      if (request.lead_ids) await addLeads(tx, run_id, request.lead_ids);
      else if (!request.draft) await fixLeads(tx, run_id, request.from_run ?? null, options.limits);
      const run = await readRun(tx, run_id);
      const { status, total_leads, list_id, from_run_id, carrier_account_id } = run;
      trail(tx, options.actor, {
        action: 'run.created',
        subject: { type: 'run', id: run_id },
        after: { status, control_epoch: 0, total_leads, list_id, from_run_id, carrier_account_id },
      });
      return { run, created: true };
    });
  } catch (error) {
    // The database's own refusal, by name: one job per lead and run.
    if (violatedConstraint(error) === 'unique_run_lead')
      throw new CarillonError('duplicate_lead', { constraint: 'unique_run_lead' }, { cause: error });
    throw error;
  }
}

async function findByKey(tx: Tx, key: string, request_hash: string): Promise<RunId | null> {
  const [row] = await tx.query<{ run_id: RunId; request_hash: string }>(
    'SELECT run_id, request_hash FROM carillon.outbound_call_runs WHERE business_id = $1 AND idempotency_key = $2',
    [tx.business_id, key],
  );
  if (!row) return null;
  if (row.request_hash !== request_hash) throw new CarillonError('idempotency_conflict');
  return row.run_id;
}

/** The same button pressed twice at once: the other press inserted first, and has committed by now. */
async function createdMeanwhile(tx: Tx, key: string, request_hash: string) {
  const run_id = await findByKey(tx, key, request_hash);
  if (!run_id) throw new Error('an idempotency key conflicted with a run that is not there');
  return { run: await readRun(tx, run_id), created: false };
}

async function chooseLane(tx: Tx, wanted: number | undefined): Promise<{ id: number; concurrency_limit: number }> {
  const lanes = await tx.query<{ id: number; concurrency_limit: number }>(
    `SELECT carrier_account_id AS id, concurrency_limit FROM carillon.lanes
     WHERE business_id = $1 AND ($2::bigint IS NULL OR carrier_account_id = $2) LIMIT 2`,
    [tx.business_id, wanted ?? null],
  );
  const [lane, other] = lanes;
  if (!lane) throw new CarillonError(wanted ? 'carrier_account_not_found' : 'no_carrier_account');
  if (other) throw new CarillonError('carrier_account_ambiguous');
  return lane;
}

export const GREETING = {
  he: { say: 'שלום, זוהי שיחה אוטומטית. תודה ולהתראות.', language: 'he-IL' },
  en: { say: 'Hello, this is an automated call. Thank you and goodbye.', language: 'en-US' },
} as const;

async function insertRun(
  tx: Tx,
  request: StartRun,
  lane: { id: number; concurrency_limit: number },
  options: { actor: Actor; idempotency_key?: string | undefined },
  request_hash: string,
): Promise<RunId | null> {
  const [business] = await tx.query<{ language: 'en' | 'he' }>(
    'SELECT language FROM carillon.businesses WHERE business_id = $1',
    [tx.business_id],
  );
  if (!business) throw new Error('the business does not exist');
  const [row] = await tx.query<{ run_id: RunId }>(
    `INSERT INTO carillon.outbound_call_runs (business_id, name, status, list_id, carrier_account_id, concurrency,
       policy, answer, starts_at, ends_at, created_by, created_by_user_id, idempotency_key, request_hash, from_run_id,
       from_outcomes)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
     ON CONFLICT (business_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING run_id`,
    [
      tx.business_id,
      request.name ?? 'Run',
      request.draft ? 'draft' : 'pending',
      request.list_id ? await existingList(tx, request.list_id) : null,
      lane.id,
      request.concurrency ?? lane.concurrency_limit,
      JSON.stringify(request.policy ?? Policy.parse({})),
      JSON.stringify(request.answer ?? GREETING[business.language]),
      request.starts_at ?? null,
      request.ends_at ?? null,
      options.actor.name,
      options.actor.user_id,
      options.idempotency_key ?? null,
      options.idempotency_key ? request_hash : null,
      request.from_run?.run_id ?? null,
      request.from_run?.outcomes ?? null,
    ],
  );
  return row?.run_id ?? null;
}

async function existingList(tx: Tx, list_id: number): Promise<number> {
  const [list] = await tx.query<{ leads: number }>(
    'SELECT leads FROM carillon.lists WHERE business_id = $1 AND list_id = $2',
    [tx.business_id, list_id],
  );
  if (!list) throw new CarillonError('list_not_found');
  if (list.leads === 0) throw new CarillonError('list_empty');
  return list_id;
}

/**
 * Fixes a run's leads, as many as the list has now or as fit of the earlier run, and makes the first jobs. Also what
 * starting a draft does. Throws `follow_up_empty`.
 */
export async function fixLeads(tx: Tx, run_id: RunId, from_run: FromRun | null, limits: Limits): Promise<void> {
  if (from_run) await fixFromRun(tx, run_id, from_run, limits.fill_batch_jobs);
  else await fixList(tx, run_id);
  await fill(tx, run_id, limits.fill_batch_jobs);
}

async function fixList(tx: Tx, run_id: RunId): Promise<void> {
  await tx.query(
    `UPDATE carillon.outbound_call_runs r SET total_leads = l.leads, queued = l.leads
     FROM carillon.lists l
     WHERE r.business_id = $1 AND r.run_id = $2 AND l.business_id = $1 AND l.list_id = r.list_id AND r.filled_seq = 0`,
    [tx.business_id, run_id],
  );
}

async function addLeads(tx: Tx, run_id: RunId, lead_ids: readonly number[]): Promise<void> {
  const known = await tx.query<{ lead_id: number }>(
    'SELECT lead_id FROM carillon.leads WHERE business_id = $1 AND lead_id = ANY ($2)',
    [tx.business_id, lead_ids],
  );
  const found = new Set(known.map((lead) => lead.lead_id));
  const missing = lead_ids.find((lead_id) => !found.has(lead_id));
  if (missing !== undefined) throw new CarillonError('lead_not_found', { lead_id: missing });
  await tx.query(
    `UPDATE carillon.outbound_call_runs SET total_leads = $3, queued = $3, filled_seq = $3
     WHERE business_id = $1 AND run_id = $2`,
    [tx.business_id, run_id, lead_ids.length],
  );
  await tx.query(
    `WITH added AS (
       INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id)
       SELECT $1, $2, wanted.seq, wanted.lead_id FROM unnest($3::bigint[]) WITH ORDINALITY AS wanted (lead_id, seq)
       RETURNING 1)
     SELECT count(*) FROM added`,
    [tx.business_id, run_id, lead_ids],
  );
}
