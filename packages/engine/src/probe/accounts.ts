import type { BusinessId, CarrierAccountId } from '@carillon/contract';
import { type Database, discover, inBusiness } from '../db/database.ts';

/** When a callback of an account was last noted down by this process: once in half a minute is enough to know. */
const NOTE_EVERY_S = 30;

/** Notes that the account's carrier has just sent a callback with its signature, at most every half minute. */
export async function noteCallback(db: Database, business_id: BusinessId, carrier_account_id: number): Promise<void> {
  await inBusiness(db, business_id, (tx) =>
    tx.query(
      `UPDATE carillon.carrier_accounts SET last_callback_at = now()
       WHERE business_id = $1 AND carrier_account_id = $2
         AND (last_callback_at IS NULL OR last_callback_at NOT BETWEEN now() - $3 * interval '1 s' AND now())`,
      [business_id, carrier_account_id, NOTE_EVERY_S],
    ),
  );
}

export interface AccountState {
  business_id: BusinessId;
  carrier_account_id: CarrierAccountId;
  driver: string;
  from_number: string;
  halted_reason: string | null;
  /** Null: none was ever heard. */
  last_callback_age_s: number | null;
  /** Calls that the carrier accepted more than two minutes ago, are still open, and of which nothing was heard since. */
  silent_calls: number;
}

/** The carrier accounts of one business, at most `accounts_max`. */
export async function readAccountStates(
  db: Database,
  business_id: BusinessId,
  accounts_max: number,
): Promise<AccountState[]> {
  return await inBusiness(db, business_id, (tx) =>
    tx.query<AccountState>(
      `SELECT a.business_id, a.carrier_account_id, a.driver, a.from_numbers[1] AS from_number,
              CASE WHEN l.halted_until_us IS NULL OR l.halted_until_us > extract(epoch FROM now()) * 1000000
                   THEN l.halted_reason END AS halted_reason,
              extract(epoch FROM now() - a.last_callback_at)::float8 AS last_callback_age_s,
              (SELECT count(*) FROM carillon.open_attempts o
               WHERE o.business_id = $1 AND o.carrier_account_id = a.carrier_account_id AND o.call_id IS NOT NULL
                 AND greatest(o.placed_us, o.heard_us) < (extract(epoch FROM now()) - 120) * 1000000) AS silent_calls
       FROM carillon.carrier_accounts a
       JOIN carillon.lanes l ON l.business_id = a.business_id AND l.carrier_account_id = a.carrier_account_id
       WHERE a.business_id = $1 ORDER BY a.carrier_account_id LIMIT $2`,
      [business_id, accounts_max],
    ),
  );
}

/** Every business but the canaries, the newest first, at most `businesses_max`; and how many there are. */
export async function findBusinesses(
  db: Database,
  businesses_max: number,
): Promise<{ business_ids: BusinessId[]; all: number }> {
  const rows = await discover<{ business_id: BusinessId; all: number }>(
    db,
    `SELECT business_id, count(*) OVER () AS all FROM carillon.businesses
     WHERE NOT canary ORDER BY business_id DESC LIMIT $1`,
    [businesses_max],
  );
  return { business_ids: rows.map(({ business_id }) => business_id), all: rows[0]?.all ?? 0 };
}

export interface BusinessLoad {
  unknown_attempts: number;
  oldest_unknown_s: number | null;
  needs_review: number;
  unwanted_calls: number;
  /** Its running runs whose worker is silent for longer than the TTL and the 2 s in which another takes over. */
  stale_leases: number;
}

/** What waits in one business for a carrier's word, a person or a worker. */
export async function readBusinessLoad(
  db: Database,
  business_id: BusinessId,
  lease_ttl_ms: number,
): Promise<BusinessLoad> {
  const [row] = await inBusiness(db, business_id, (tx) =>
    tx.query<BusinessLoad>(
      `SELECT (SELECT count(*) FROM carillon.open_attempts WHERE business_id = $1 AND state = 'unknown')
                AS unknown_attempts,
              (SELECT (extract(epoch FROM now()) - min(deadline_us) / 1e6)::float8 FROM carillon.open_attempts
               WHERE business_id = $1 AND state = 'unknown') AS oldest_unknown_s,
              (SELECT coalesce(sum(needs_review), 0)::bigint FROM carillon.outbound_call_runs WHERE business_id = $1)
                AS needs_review,
              (SELECT count(*) FROM carillon.unwanted_calls WHERE business_id = $1 AND over_at IS NULL)
                AS unwanted_calls,
              (SELECT count(*) FROM carillon.outbound_call_runs
               WHERE business_id = $1 AND status = 'running' AND lock_ts < now() - ($2 + 2000) * interval '1 ms')
                AS stale_leases`,
      [business_id, lease_ttl_ms],
    ),
  );
  if (!row) throw new Error('the counts gave no row');
  return row;
}
