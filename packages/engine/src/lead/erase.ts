import type { BusinessId, ErasedLead, LeadId, RunId, Seq } from '@carillon/contract';
import { CarillonError, formatJobId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import { ERASED, withdrawJobs } from '../call/withdraw.ts';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import type { RunRow } from '../run/row.ts';
import { eraseImportLines } from './erase-lines.ts';
import { jobsInOpenRuns, type OpenJob } from './history.ts';
import { type LeadRow, lockLead, readLead } from './view.ts';

/**
 * Erases a person: number, name, external id, time zone, attributes, consent, and the lines of imports and the rows of
 * an adopted installation that were kept with them. The lead's row stays, empty, for the jobs that count it; it is never called again: its jobs that wait to be called
 * are skipped now, and those that a run has yet to make when the run gets to them.
 *
 * An erased lead stays as it is. Throws `lead_not_found`, and `lead_in_call` while a call to the lead is open: what is
 * still ringing can't be forgotten.
 */
export async function eraseLead(
  db: Database,
  business_id: BusinessId,
  lead_id: LeadId,
  options: { actor: Actor; limits: Limits },
): Promise<ErasedLead> {
  for (;;) {
    const erased = await inBusiness(db, business_id, 'erase', (tx) => eraseOnce(tx, lead_id, options));
    if (erased) return erased;
  }
}

/** Null: a run took up the lead while it was being locked, so once more with that run. */
async function eraseOnce(
  tx: Tx,
  lead_id: LeadId,
  options: { actor: Actor; limits: Limits },
): Promise<ErasedLead | null> {
  const before = await readLead(tx, lead_id);
  if (before.erased_at) return { lead_id, erased_at: before.erased_at.toISOString(), jobs_skipped: 0, import_lines: 0 };
  // The long search comes before any lock that others wait for; what comes in meanwhile is looked through again.
  const lines = await eraseImportLines(tx, before, null);
  // The runs before the lead, as everybody locks them. Once the lead is locked no run can take it up: the new job's
  // foreign key waits for us. A run that did so before the lock shows now.
  const runs = await lockRuns(tx, await jobsInOpenRuns(tx, lead_id));
  const lead = await lockLead(tx, lead_id);
  if (lead.erased_at) return null;
  const jobs = await jobsInOpenRuns(tx, lead_id);
  if (jobs.some(({ run_id }) => !runs.has(run_id))) return null;
  await refuseOpenCalls(tx, lead_id);
  let jobs_skipped = 0;
  for (const job of jobs) {
    const run = runs.get(job.run_id);
    if (!run || run.status === 'cancelling' || (job.status !== 'queued' && job.status !== 'waiting')) continue;
    withdrawJobs(tx, run, [job], ERASED, options);
    jobs_skipped++;
  }
  const import_lines = lines + (await eraseImportLines(tx, lead, MEANWHILE_S));
  eraseBeside(tx, lead_id);
  const erased_at = await emptyLead(tx, lead_id);
  const subject = { type: 'lead', id: lead_id } as const;
  trail(tx, options.actor, { action: 'lead.erased', subject, after: { jobs_skipped, import_lines } });
  return { lead_id, erased_at, jobs_skipped, import_lines };
}

/** Imports that showed a sign of life in this time may have added lines while we looked. */
const MEANWHILE_S = 900;

async function lockRuns(tx: Tx, jobs: OpenJob[]): Promise<Map<RunId, RunRow>> {
  const rows = await tx.query<RunRow>(
    `SELECT * FROM carillon.outbound_call_runs WHERE business_id = $1 AND run_id = ANY ($2)
     ORDER BY business_id, run_id FOR NO KEY UPDATE`,
    [tx.business_id, jobs.map((job) => job.run_id)],
  );
  return new Map(rows.map((row) => [row.run_id, row]));
}

async function refuseOpenCalls(tx: Tx, lead_id: LeadId): Promise<void> {
  const [open] = await tx.query<{ run_id: RunId; seq: Seq }>(
    'SELECT run_id, seq FROM carillon.open_attempts WHERE business_id = $1 AND lead_id = $2 LIMIT 1',
    [tx.business_id, lead_id],
  );
  if (open) throw new CarillonError('lead_in_call', { run_id: open.run_id, job_id: formatJobId(open) });
}

/** What other tables hold of the person, by the lead's id. */
function eraseBeside(tx: Tx, lead_id: LeadId): void {
  const params = [tx.business_id, lead_id];
  tx.send('DELETE FROM carillon.lead_consents WHERE business_id = $1 AND lead_id = $2', params);
  tx.send(`UPDATE carillon.adopted_rows SET row = '{}', detail = NULL WHERE business_id = $1 AND lead_id = $2`, params);
}

async function emptyLead(tx: Tx, lead_id: LeadId): Promise<string> {
  const [row] = await tx.query<Pick<LeadRow, 'erased_at'>>(
    `UPDATE carillon.leads SET phone = NULL, name = NULL, external_id = NULL, time_zone = NULL, attributes = '{}',
       erased_at = now(), updated_at = now()
     WHERE business_id = $1 AND lead_id = $2 RETURNING erased_at`,
    [tx.business_id, lead_id],
  );
  if (!row?.erased_at) throw new Error('a locked lead was not erased');
  return row.erased_at.toISOString();
}
