import type { BusinessId } from '@carillon/contract';
import type { Database } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import type { Lease } from './lease.ts';

export interface Pulse {
  /** Taken by another, ended, paused, or expired while this worker slept. */
  lost: Lease[];
  /** Could not be renewed this time; to be tried again soon. */
  failed: { leases: Lease[]; error: unknown }[];
}

/**
 * Renews leases; to be called every third of the TTL. An expired lease is not revived, even if nobody took it: it is
 * leased anew. Business by business, all at once: trouble in one is no trouble for another.
 */
export async function heartbeat(db: Database, leases: Lease[], worker_id: string, limits: Limits): Promise<Pulse> {
  const pulse: Pulse = { lost: [], failed: [] };
  const groups = Map.groupBy(leases, (lease) => lease.business_id);
  await Promise.all(
    [...groups].map(async ([business_id, mine]) => {
      try {
        const epochs = await renew(db, business_id, mine, worker_id, limits);
        pulse.lost.push(...mine.filter((lease) => epochs.get(lease.run_id) !== lease.lease_epoch));
      } catch (error) {
        pulse.failed.push({ leases: mine, error });
      }
    }),
  );
  return pulse;
}

/** One statement for each, sent together, in the order in which everybody locks runs. */
async function renew(db: Database, business_id: BusinessId, mine: Lease[], worker_id: string, limits: Limits) {
  const in_order = mine.toSorted((a, b) => a.run_id - b.run_id);
  const renewed = await inBusiness(db, business_id, 'heartbeat', (tx) =>
    Promise.all(
      in_order.map(({ run_id }) =>
        tx.query<{ run_id: number; lease_epoch: number }>(
          `UPDATE carillon.outbound_call_runs SET lock_ts = now()
           WHERE business_id = $1 AND run_id = $2 AND locked_by_worker = $3
             AND lock_ts BETWEEN now() - $4 * interval '1 ms' AND now() + interval '2 s'
           RETURNING run_id, lease_epoch`,
          [business_id, run_id, worker_id, limits.lease_ttl_ms],
        ),
      ),
    ),
  );
  return new Map(renewed.flat().map((row) => [row.run_id, row.lease_epoch]));
}

/** Gives leases back, so that the next worker need not wait for the TTL. Those that are no longer ours stay as they are. */
export async function releaseLeases(db: Database, leases: Lease[], worker_id: string): Promise<void> {
  for (const lease of leases) {
    await inBusiness(db, lease.business_id, 'release', (tx) =>
      tx.query(
        `UPDATE carillon.outbound_call_runs SET locked_by_worker = NULL, lock_ts = NULL, updated_at = now()
         WHERE business_id = $1 AND run_id = $2 AND locked_by_worker = $3 AND lease_epoch = $4`,
        [lease.business_id, lease.run_id, worker_id, lease.lease_epoch],
      ),
    );
  }
}
