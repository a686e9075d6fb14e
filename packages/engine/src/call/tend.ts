import type { BusinessId, RunId, Seq } from '@carillon/contract';
import type { Database } from '../db/database.ts';
import { databaseNow, discover, inBusiness } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { CLOCK_SET_BACK_US } from '../run/set-back.ts';
import { NOBODY_SAID, type OpenAttempt } from './attempt.ts';
import { knownCalls } from './known.ts';

/** What an open attempt needs that nobody is doing: the errand of its state's reaper. */
export type Errand = 'expire' | 'reconcile' | 'hang_up' | 'poll';

export interface Due {
  business_id: BusinessId;
  run_id: RunId;
  seq: Seq;
  carrier_account_id: number;
  errand: Errand;
}

const ERRANDS_AT_ONCE = 500;
/** An account whose carrier does not answer has very many, and leaves room for those of others. */
const ERRANDS_OF_AN_ACCOUNT = 100;

/**
 * Open attempts of all businesses that need tending, whoever holds their runs and whatever those do: attempts past
 * their dial deadline, unknown ones, live ones that have been silent for long, and those to be hung up. Every account has
 * its first, then its second; what is to expire asks no carrier, and takes no other errand's place.
 */
export async function findDue(db: Database, limits: Limits): Promise<Due[]> {
  return await discover<Due>(
    db,
    `WITH now AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us),
     clock AS (SELECT now_us, now_us + $5::bigint AS ahead_us FROM now),
     due AS (
       SELECT business_id, run_id, seq, carrier_account_id, errand, asked_us, row_number() OVER (
         PARTITION BY business_id, carrier_account_id, errand = 'expire' ORDER BY asked_us) AS nth
       FROM (
         SELECT business_id, run_id, seq, carrier_account_id, asked_us, CASE
           WHEN state = 'dialing' THEN CASE WHEN deadline_us < now_us OR heard_us > ahead_us THEN 'expire' END
           WHEN state = 'unknown'
             THEN CASE WHEN asked_us < now_us - $1::bigint * 1000 OR asked_us > ahead_us THEN 'reconcile' END
           WHEN hang_up IS NOT NULL AND (asked_us < now_us - $2::bigint * 1000 OR asked_us > ahead_us) THEN 'hang_up'
           WHEN asked_us < 0 OR greatest(heard_us, asked_us) < now_us - $3::bigint * 1000 OR greatest(heard_us, asked_us) > ahead_us
             THEN 'poll'
         END AS errand
         FROM carillon.open_attempts, clock) o
       WHERE errand IS NOT NULL)
     (SELECT business_id, run_id, seq, carrier_account_id, errand FROM due
      WHERE errand = 'expire' ORDER BY nth LIMIT $4)
     UNION ALL
     (SELECT business_id, run_id, seq, carrier_account_id, errand FROM due
      WHERE errand <> 'expire' AND nth <= $6 ORDER BY nth, asked_us LIMIT $4)`,
    [
      limits.reconcile_every_ms,
      limits.hang_up_every_ms,
      limits.poll_after_ms,
      ERRANDS_AT_ONCE,
      CLOCK_SET_BACK_US,
      ERRANDS_OF_AN_ACCOUNT,
    ],
  );
}

/**
 * Takes the turn to ask the carrier about an attempt, so that of several workers one does. Null when it no longer
 * needs it. `now_us` is the database's clock.
 */
export async function takeTurn(
  db: Database,
  due: Due,
  every_ms: number,
): Promise<{ attempt: OpenAttempt; now_us: number } | null> {
  return await inBusiness(db, due.business_id, 'take_turn', async (tx) => {
    const now_us = await databaseNow(tx);
    const [attempt] = await tx.query<OpenAttempt>(
      `UPDATE carillon.open_attempts SET asked_us = $4
       WHERE business_id = $1 AND run_id = $2 AND seq = $3 AND (asked_us < $5 OR asked_us > $4::bigint + $6) RETURNING *`,
      [due.business_id, due.run_id, due.seq, now_us, now_us - every_ms * 1_000, CLOCK_SET_BACK_US],
    );
    return attempt ? { attempt, now_us } : null;
  });
}

/**
 * Attempts past their dial deadline become unknown: the reaper of `dialing`. It asks neither for the run's state nor
 * for its lease; a lost COMMIT answer, a pause or a lease given back leave such attempts too. Returns how many. A row that
 * is locked is being settled, or its holder stands still: nobody is waited for, so the order of the locks is no matter.
 */
export async function expireDialing(db: Database, due: Due[]): Promise<number> {
  let expired = 0;
  for (const [business_id, mine] of Map.groupBy(due, (item) => item.business_id)) {
    expired += await inBusiness(db, business_id, 'expire', async (tx) => {
      const now_us = await databaseNow(tx);
      const rows = await tx.query(
        `WITH overdue AS MATERIALIZED (
           SELECT run_id, seq FROM carillon.open_attempts
           WHERE business_id = $1 AND run_id = ANY ($2) AND seq = ANY ($3) AND state = 'dialing'
             AND (deadline_us < $4 OR heard_us > $4::bigint + $5)
           FOR UPDATE SKIP LOCKED)
         UPDATE carillon.open_attempts o
         SET state = 'unknown', unknown_us = $4, cause = $6
         FROM overdue WHERE o.business_id = $1 AND o.run_id = overdue.run_id AND o.seq = overdue.seq
         RETURNING o.seq`,
        [
          business_id,
          mine.map((item) => item.run_id),
          mine.map((item) => item.seq),
          now_us,
          CLOCK_SET_BACK_US,
          NOBODY_SAID,
        ],
      );
      return rows.length;
    });
  }
  return expired;
}

/**
 * Those of the listed calls that are somebody's on this account: another attempt's, or known to be unwanted. A call in the
 * carrier's list is an attempt's only if it is none of them.
 */
export async function boundCallIds(
  db: Database,
  { business_id, carrier_account_id }: Pick<OpenAttempt, 'business_id' | 'carrier_account_id'>,
  listed: readonly string[],
): Promise<ReadonlySet<string>> {
  if (listed.length === 0) return new Set();
  const known = await inBusiness(db, business_id, (tx) => knownCalls(tx, carrier_account_id, listed));
  const bound = known.filter((call) => call.unwanted !== null || call.carrier_account_id === carrier_account_id);
  return new Set(bound.map((call) => call.call_id));
}
