import { CarillonError, type FromRun, type RunId, type StartRun } from '@carillon/contract';
import type { Tx } from '../db/database.ts';
import type { RunRow } from './row.ts';

/** The request with what it leaves out as the earlier run has it. Throws `run_not_found`. */
export async function likeEarlier(tx: Tx, request: StartRun, run_id: RunId): Promise<StartRun> {
  const [earlier] = await tx.query<RunRow>(
    'SELECT * FROM carillon.outbound_call_runs WHERE business_id = $1 AND run_id = $2',
    [tx.business_id, run_id],
  );
  if (!earlier) throw new CarillonError('run_not_found');
  const { name, carrier_account_id, concurrency, policy, answer } = earlier;
  const given = Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined));
  return { name, carrier_account_id, concurrency, policy, answer, ...given } as StartRun;
}

/**
 * Fixes a follow-up run's leads: those of the earlier run whose jobs have ended in one of the wanted ways, as they are
 * at this moment. One that is still to be called there, or whose call is open, is none of them. In the order of their
 * jobs, in parts of at most `part_leads`. Throws `follow_up_empty`.
 */
export async function fixFromRun(tx: Tx, run_id: RunId, from_run: FromRun, part_leads: number): Promise<void> {
  const [fixed] = await tx.query<{ leads: number }>(FIX, [
    tx.business_id,
    run_id,
    from_run.run_id,
    from_run.outcomes,
    Math.min(part_leads, PART_LEADS_MAX),
  ]);
  if (!fixed || fixed.leads === 0)
    throw new CarillonError('follow_up_empty', { run_id: from_run.run_id, outcomes: from_run.outcomes.join(', ') });
  await tx.query(
    `UPDATE carillon.outbound_call_runs SET total_leads = $3, queued = $3
     WHERE business_id = $1 AND run_id = $2 AND filled_seq = 0`,
    [tx.business_id, run_id, fixed.leads],
  );
}

/** As a row of run_leads may hold. */
const PART_LEADS_MAX = 10_000;

/**
 * One statement, so one snapshot: rows that the earlier run has yet to make, because it was stopped before, are those
 * behind its filled_seq as this statement sees it. Grouped by their numbers and counted group by group: sorting a
 * million leads would take longer than reading them.
 */
const FIX = `
  WITH earlier AS (
    SELECT status IN ('cancelling', 'cancelled', 'failed') AS stopped, list_id, filled_seq, total_leads
    FROM carillon.outbound_call_runs WHERE business_id = $1 AND run_id = $3),
  wanted AS (
    SELECT (j.seq - 1) / $5::int AS part, j.lead_id
    FROM carillon.outbound_call_jobs j
    WHERE j.business_id = $1 AND j.run_id = $3 AND CASE j.status
      WHEN 'completed' THEN false
      WHEN 'in_progress' THEN false
      WHEN 'needs_review' THEN 'needs_review' = ANY ($4::text[])
      WHEN 'skipped' THEN 'skipped' = ANY ($4)
      ELSE (j.status IN ('failed', 'cancelled') OR (SELECT stopped FROM earlier))
        AND CASE WHEN j.last_outcome IN ('busy', 'no_answer', 'voicemail', 'failed', 'rejected') THEN j.last_outcome
            ELSE 'cancelled' END = ANY ($4)
      END
    UNION ALL
    SELECT (m.position - 1) / $5, m.lead_id
    FROM earlier e
    JOIN carillon.list_members m
      ON m.business_id = $1 AND m.list_id = e.list_id AND m.position > e.filled_seq AND m.position <= e.total_leads
    WHERE e.stopped AND 'cancelled' = ANY ($4)
    UNION ALL
    SELECT (p.first_seq + l.n - 2) / $5, l.lead_id
    FROM earlier e
    JOIN carillon.run_leads p ON p.business_id = $1 AND p.run_id = $3
    CROSS JOIN LATERAL unnest(p.lead_ids) WITH ORDINALITY AS l (lead_id, n)
    WHERE e.stopped AND 'cancelled' = ANY ($4) AND p.first_seq + l.n - 1 > e.filled_seq),
  grouped AS (SELECT part, count(*)::int AS leads, array_agg(lead_id) AS lead_ids FROM wanted GROUP BY part),
  fixed AS (
    INSERT INTO carillon.run_leads (business_id, run_id, first_seq, lead_ids)
    SELECT $1, $2, 1 + sum(leads) OVER (ORDER BY part) - leads, lead_ids FROM grouped
    RETURNING cardinality(lead_ids) AS leads)
  SELECT coalesce(sum(leads), 0)::bigint AS leads FROM fixed`;
