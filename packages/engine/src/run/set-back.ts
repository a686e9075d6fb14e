import type { Tx } from '../db/database.ts';
import type { RunRow } from './row.ts';

/** A time that lies further ahead than this was written before the database's clock was set back. */
export const CLOCK_SET_BACK_US = 2_000_000;

/** Why a job waits that its policy has called again, and after as long as that says. */
export const RETRY = 'retry';
/** What waits for any other reason waits no longer than this. */
export const BACK_OFF_LONGEST_US = 60_000_000;

interface Waiting {
  due_us: number;
  reason: string;
}

/**
 * Brings forward jobs that were told to wait before the database's clock was set back: they lie further ahead than
 * anything of this run waits. A retry then waits as long as its policy says once more, everything else is due. Under the
 * run's lock. Looks at the first and the last of those that wait, whose number does not matter.
 */
export async function bringForwardSetBack(tx: Tx, run: RunRow, now_us: number): Promise<void> {
  const ends = await tx.query<Waiting>(
    `(SELECT due_us, reason FROM carillon.job_schedule
      WHERE business_id = $1 AND run_id = $2 AND due_us > 0 ORDER BY due_us LIMIT 1)
     UNION ALL
     (SELECT due_us, reason FROM carillon.job_schedule
      WHERE business_id = $1 AND run_id = $2 AND due_us > 0 ORDER BY due_us DESC LIMIT 1)`,
    [tx.business_id, run.run_id],
  );
  const retries = Object.values(run.policy.retry ?? {}).map(({ after_s }) => after_s * 1_000_000);
  const retry_us = now_us + Math.max(0, ...retries);
  const others_us = now_us + BACK_OFF_LONGEST_US;
  const latest_us = (reason: string) => (reason === RETRY ? retry_us : others_us) + CLOCK_SET_BACK_US;
  if (ends.every(({ due_us, reason }) => due_us <= latest_us(reason))) return;
  tx.send(
    `UPDATE carillon.job_schedule SET due_us = CASE WHEN reason = $3 THEN $4::bigint ELSE $6::bigint END
     WHERE business_id = $1 AND run_id = $2
       AND due_us > CASE WHEN reason = $3 THEN $4::bigint ELSE $5::bigint END + $7::bigint`,
    [tx.business_id, run.run_id, RETRY, retry_us, others_us, now_us, CLOCK_SET_BACK_US],
  );
}
