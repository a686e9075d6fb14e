import type { BusinessId } from '@carillon/contract';
import { type Database, inBusiness, type Tx, violatedConstraint } from '../db/database.ts';
import { type ArchivedRow, decide, type Decision, type KeptJob, type NewLead } from './decide.ts';
import { AdoptError } from './errors.ts';
import type { JudgedJob } from './judge.ts';
import { readStored, type Stored } from './known.ts';
import type { AdoptLimits } from './limits.ts';
import type { OldRow } from './old-rows.ts';
import type { Tally } from './tally.ts';

export interface StageContext {
  db: Database;
  business_id: BusinessId;
  adoption_id: number;
  /** In which zone the old database's times without one are. */
  time_zone: string;
  limits: AdoptLimits;
  /** Old jobs again, for rows of earlier batches that are now surpassed. */
  jobsById(ids: readonly number[]): Promise<OldRow[]>;
}

const TRIES = 5;

/**
 * Sorts one batch of a business's jobs and writes what became of each, with how far the adoption has come, in one
 * transaction: leads, the jobs as they will be in their runs, and the archive. `from` is where the adoption was, `to`
 * the last old id of this batch.
 *
 * Throws `adopt_in_progress` when somebody else has moved on meanwhile.
 */
export async function stageBatch(
  context: StageContext,
  batch: readonly JudgedJob[],
  from: number,
  to: number,
): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await inBusiness(context.db, context.business_id, (tx) => stage(tx, context, batch, from, to));
    } catch (error) {
      // The business goes on working meanwhile: somebody else made a lead of one of these numbers.
      if (!LEAD_KEYS.has(violatedConstraint(error) ?? '') || tries === TRIES) throw error;
    }
  }
}

const LEAD_KEYS = new Set(['unique_lead_phone', 'leads_pkey']);

async function stage(tx: Tx, context: StageContext, batch: readonly JudgedJob[], from: number, to: number) {
  const { adoption_id, limits } = context;
  const [adoption] = await tx.query<{ jobs_cursor: number; tally: Tally }>(
    'SELECT jobs_cursor, tally FROM carillon.adoptions WHERE business_id = $1 AND adoption_id = $2 FOR UPDATE',
    [tx.business_id, adoption_id],
  );
  if (adoption?.jobs_cursor !== from)
    throw new AdoptError('adopt_in_progress', 'Another adoption of the same tables has gone on meanwhile; let it end');
  const { tally } = adoption;
  const stored = await readStored(tx, adoption_id, batch);
  const decision = decide(batch, stored, tally, limits);
  await tx.query("SELECT set_config('timezone', $1, true)", [context.time_zone]);
  const leads = await writeLeads(tx, decision.leads, stored);
  writeMappings(tx, adoption_id, decision, leads);
  writeJobs(tx, decision, stored, leads);
  await writeArchive(tx, context, decision.archived, leads);
  const runs = [...decision.runs];
  tx.send(
    `UPDATE carillon.adopted_runs r SET jobs = n.jobs
     FROM unnest($3::bigint[], $4::int[]) AS n (old_run_id, jobs)
     WHERE r.business_id = $1 AND r.adoption_id = $2 AND r.old_run_id = n.old_run_id`,
    [tx.business_id, adoption_id, runs.map(([run]) => run), runs.map(([, jobs]) => jobs)],
    runs.length,
  );
  tx.send(
    'UPDATE carillon.adoptions SET jobs_cursor = $3, tally = $4::jsonb WHERE business_id = $1 AND adoption_id = $2',
    [tx.business_id, adoption_id, to, JSON.stringify(tally)],
    1,
  );
}

/** The lead of each number, the new ones included. */
type LeadOf = (phone: string) => number;

async function writeLeads(tx: Tx, leads: readonly NewLead[], stored: Stored): Promise<LeadOf> {
  const fresh = leads.filter((lead) => lead.lead_id === null).length;
  const ids = await tx.query<{ id: number }>(
    `SELECT nextval(pg_get_serial_sequence('carillon.leads', 'lead_id')) AS id FROM generate_series(1, $1::int)`,
    [fresh],
  );
  const made = new Map(leads.map((lead) => [lead.phone, lead.lead_id ?? ids.pop()?.id ?? 0]));
  const column = <T>(of: (lead: NewLead) => T) => leads.map(of);
  tx.send(
    `WITH added AS (
       INSERT INTO carillon.leads (business_id, lead_id, phone, name, external_id, time_zone, attributes, created_at)
       SELECT $1, l.id, l.phone, l.name, l.external_id, l.time_zone, l.attributes::jsonb,
              coalesce(l.created_at::timestamptz, now())
       FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
         AS l (id, phone, name, external_id, time_zone, attributes, created_at)
       ORDER BY l.phone RETURNING 1)
     SELECT 1 FROM added`,
    [
      tx.business_id,
      column((lead) => made.get(lead.phone)),
      column((lead) => lead.phone),
      column((lead) => lead.name),
      column((lead) => lead.external_id),
      column((lead) => lead.time_zone),
      column((lead) => JSON.stringify(lead.attributes)),
      column((lead) => lead.created_at),
    ],
    leads.length,
  );
  return (phone) => {
    const lead_id = made.get(phone) ?? stored.leadOf(phone);
    if (lead_id === undefined) throw new Error('a lead was decided upon and is not there');
    return lead_id;
  };
}

function writeMappings(tx: Tx, adoption_id: number, { mappings }: Decision, leadOf: LeadOf): void {
  tx.send(
    `WITH added AS (
       INSERT INTO carillon.adopted_leads (business_id, adoption_id, old_lead_id, lead_id, made)
       SELECT $1, $2, m.* FROM unnest($3::bigint[], $4::bigint[], $5::boolean[]) AS m RETURNING 1)
     SELECT 1 FROM added`,
    [
      tx.business_id,
      adoption_id,
      mappings.map((mapping) => mapping.old_lead_id),
      mappings.map((mapping) => leadOf(mapping.phone)),
      mappings.map((mapping) => mapping.made),
    ],
    mappings.length,
  );
}

function writeJobs(tx: Tx, { added, replaced }: Decision, stored: Stored, leadOf: LeadOf): void {
  const runOf = ({ job }: KeptJob) => stored.run(job.run_id)?.run_id;
  const values = (jobs: readonly KeptJob[]) => [
    jobs.map(runOf),
    jobs.map((kept) => kept.seq),
    jobs.map((kept) => kept.old_job_id),
    jobs.map((kept) => kept.old_lead_id),
    jobs.map((kept) => kept.rank),
    jobs.map((kept) => kept.status),
    jobs.map(({ job }) => job.last_outcome),
    jobs.map(({ job }) => job.reason),
    jobs.map(({ job }) => job.updated_at),
    jobs.map(({ job }) => leadOf(job.phone)),
  ];
  tx.send(
    `WITH added AS (
       INSERT INTO carillon.adopted_jobs (business_id, run_id, seq, old_job_id, old_lead_id, rank, status, last_outcome,
         reason, updated_at, lead_id)
       SELECT $1, j.run_id, j.seq, j.old_job_id, j.old_lead_id, j.rank, j.status, j.last_outcome, j.reason,
              j.updated_at::timestamptz, j.lead_id
       FROM unnest($2::bigint[], $3::int[], $4::bigint[], $5::bigint[], $6::smallint[], $7::text[], $8::text[],
                   $9::text[], $10::text[], $11::bigint[])
         AS j (run_id, seq, old_job_id, old_lead_id, rank, status, last_outcome, reason, updated_at, lead_id)
       RETURNING 1)
     SELECT 1 FROM added`,
    [tx.business_id, ...values(added)],
    added.length,
  );
  if (replaced.length === 0) return;
  tx.send(
    `UPDATE carillon.adopted_jobs a SET old_job_id = j.old_job_id, old_lead_id = j.old_lead_id, rank = j.rank,
       status = j.status, last_outcome = j.last_outcome, reason = j.reason, updated_at = j.updated_at::timestamptz
     FROM unnest($2::bigint[], $3::int[], $4::bigint[], $5::bigint[], $6::smallint[], $7::text[], $8::text[],
                 $9::text[], $10::text[], $11::bigint[])
       AS j (run_id, seq, old_job_id, old_lead_id, rank, status, last_outcome, reason, updated_at, lead_id)
     WHERE a.business_id = $1 AND a.run_id = j.run_id AND a.lead_id = j.lead_id AND a.seq = j.seq`,
    [tx.business_id, ...values(replaced)],
    replaced.length,
  );
}

async function writeArchive(
  tx: Tx,
  context: StageContext,
  archived: readonly ArchivedRow[],
  leadOf: LeadOf,
): Promise<void> {
  const again = archived.filter((row) => row.text === null).map((row) => row.old_id);
  const texts = new Map(
    again.length === 0 ? [] : (await context.jobsById(again)).map((row) => [row.id, row.text] as const),
  );
  tx.send(
    `WITH added AS (
       INSERT INTO carillon.adopted_rows (business_id, adoption_id, kind, old_id, reason, detail, lead_id, row)
       SELECT $1, $2, a.kind, a.old_id, a.reason, a.detail, a.lead_id, a.row::jsonb
       FROM unnest($3::text[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], $8::text[])
         AS a (kind, old_id, reason, detail, lead_id, row)
       RETURNING 1)
     SELECT 1 FROM added`,
    [
      tx.business_id,
      context.adoption_id,
      archived.map((row) => row.kind),
      archived.map((row) => row.old_id),
      archived.map((row) => row.reason),
      archived.map((row) => row.detail),
      archived.map((row) => (row.phone === null ? null : leadOf(row.phone))),
      // Deleted since it was read, in a database that goes on changing: its id is what is left.
      archived.map((row) => row.text ?? texts.get(row.old_id) ?? JSON.stringify({ id: row.old_id })),
    ],
    archived.length,
  );
}
