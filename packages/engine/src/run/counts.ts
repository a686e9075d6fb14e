import type { BusinessId, Counts } from '@carillon/contract';
import type { Database } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';

/**
 * Live calls, queued jobs, and the finished jobs of the runs that were at work today (since midnight in the business's
 * time zone), against the lanes' limits. A sum over runs, so it costs the same with a million jobs.
 */
export async function countCalls(db: Database, business_id: BusinessId): Promise<Counts> {
  return await inBusiness(db, business_id, async (tx) => {
    const [row] = await tx.query<Counts>(
      `WITH midnight AS (
         SELECT date_trunc('day', now(), time_zone) AS at FROM carillon.businesses WHERE business_id = $1)
       SELECT
         (SELECT count(*) FROM carillon.open_attempts WHERE business_id = $1) AS live,
         (SELECT coalesce(sum(queued + waiting), 0) FROM carillon.outbound_call_runs
          WHERE business_id = $1 AND status IN ('pending', 'running', 'paused'))::bigint AS queued,
         (SELECT coalesce(sum(cursor_position), 0) FROM carillon.outbound_call_runs
          WHERE business_id = $1 AND coalesce(ended_at, updated_at) >= (SELECT at FROM midnight))::bigint AS finished_today,
         (SELECT coalesce(sum(concurrency_limit), 0) FROM carillon.lanes WHERE business_id = $1)::bigint
           AS concurrency_limit`,
      [business_id],
    );
    if (!row) throw new Error('no counts');
    return row;
  });
}
