import type { Tx } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import type { RunRow } from '../run/row.ts';
import type { ClosedAttempt } from './close.ts';

/**
 * Refusals with codes that the driver's table does not have: each fails its lead, until so many came in a row that it is
 * hardly the leads. From then on they are taken for the account's: the lead waits, and the lane is halted and probed. The
 * count is the lane's, and an accepted call sets it back (see `record`); refusals that are known for the number's neither
 * count nor come between.
 */
export async function judgeUnlisted(
  tx: Tx,
  run: RunRow,
  closed: ClosedAttempt[],
  limits: Limits,
): Promise<ClosedAttempt[]> {
  const unlisted = closed.filter(({ closing }) => closing.refusal === 'unlisted');
  if (unlisted.length === 0) return closed;
  const [lane] = await tx.query<{ before: number }>(
    `UPDATE carillon.lanes SET unlisted_refusals = unlisted_refusals + $3
     WHERE business_id = $1 AND carrier_account_id = $2 RETURNING unlisted_refusals - $3 AS before`,
    [run.business_id, run.carrier_account_id, unlisted.length],
  );
  const by_lead = Math.max(0, limits.unlisted_refusals - (lane?.before ?? 0));
  const by_lane = new Set(unlisted.slice(by_lead));
  return closed.map((item) =>
    by_lane.has(item) ? { ...item, closing: { ...item.closing, next: 'pool', lane_refused: true } } : item,
  );
}

/**
 * How often this lead was refused for the lane's sake while the lane was trusted, the refusal that is being closed
 * included. Where an account is refused altogether only the first refusal is such a one; who collects several is refused
 * while others are called.
 */
export async function countRefusals(tx: Tx, { attempt }: ClosedAttempt): Promise<number> {
  const [row] = await tx.query<{ attempts: number }>(
    `SELECT count(DISTINCT attempt_no) AS attempts FROM carillon.attempts
     WHERE business_id = $1 AND run_id = $2 AND seq = $3 AND outcome = 'rejected' AND lane_was_trusted`,
    [attempt.business_id, attempt.run_id, attempt.seq],
  );
  return (row?.attempts ?? 0) + 1;
}
