import type { Tx } from '../db/database.ts';

/** A call that a carrier lists and the database knows. */
export interface KnownCall {
  call_id: string;
  /** Of the attempt that it is of; null for one that is only known to be unwanted, by the account that was asked about. */
  carrier_account_id: number | null;
  /** Why nobody wants it; null for an attempt's. */
  unwanted: string | null;
}

/**
 * Those of the calls that are somebody's: an attempt's, whoever it called and by whichever account of the business, or
 * known to be unwanted on this account. They are looked up by their ids: the lead of an earlier call to the same number may
 * be erased, or have another number by now.
 */
export async function knownCalls(
  tx: Tx,
  carrier_account_id: number,
  call_ids: readonly string[],
): Promise<readonly KnownCall[]> {
  if (call_ids.length === 0) return [];
  // OFFSET 0: one look for each, whatever the planner thinks of the table. As a join it may read the whole business.
  return await tx.query<KnownCall>(
    `SELECT l.call_id, a.carrier_account_id, NULL::text AS unwanted FROM unnest($3::text[]) AS l (call_id)
     CROSS JOIN LATERAL (
       SELECT carrier_account_id FROM carillon.attempts WHERE business_id = $1 AND call_id = l.call_id OFFSET 0) a
     UNION ALL
     SELECT call_id, carrier_account_id, NULL FROM carillon.open_attempts
     WHERE business_id = $1 AND call_id = ANY ($3)
     UNION ALL
     SELECT l.call_id, NULL, u.reason FROM unnest($3::text[]) AS l (call_id)
     CROSS JOIN LATERAL (
       SELECT reason FROM carillon.unwanted_calls
       WHERE business_id = $1 AND carrier_account_id = $2 AND call_id = l.call_id OFFSET 0) u`,
    [tx.business_id, carrier_account_id, call_ids],
  );
}
