import type { BusinessId, CarrierAccountId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import { CLOCK_SET_BACK_US } from '../run/set-back.ts';
import { type Database, databaseNow, discover, inBusiness } from '../db/database.ts';

/** An account whose carrier has not been asked yet, since the last restore, for the calls that may be forgotten. */
export interface AccountToSettle {
  business_id: BusinessId;
  carrier_account_id: CarrierAccountId;
}

export async function accountsToSettle(db: Database, restores: number): Promise<AccountToSettle[]> {
  return await discover<AccountToSettle>(
    db,
    `SELECT business_id, carrier_account_id FROM carillon.lanes WHERE restores_settled < $1
     ORDER BY business_id, carrier_account_id`,
    [restores],
  );
}

/** Since when a call of this business might be forgotten and matter. */
export interface SettleTurn {
  /** Milliseconds since 1970; null: nobody of this business waits for a call. */
  since_ms: number | null;
  now_ms: number;
}

/**
 * Takes the turn to settle an account, so that of several workers one does. Null while it is another's, and while an
 * attempt of the business is open: those that the database knows are settled first, by whoever tends them, so that a
 * call is never taken for forgotten that is one of theirs.
 */
export async function takeSettleTurn(
  db: Database,
  account: AccountToSettle,
  every_ms: number,
): Promise<SettleTurn | null> {
  return await inBusiness(db, account.business_id, 'restore_turn', async (tx) => {
    const key = [account.business_id, account.carrier_account_id];
    const [open] = await tx.query('SELECT 1 FROM carillon.open_attempts WHERE business_id = $1 LIMIT 1', [
      account.business_id,
    ]);
    if (open) return null;
    const now_us = await databaseNow(tx);
    const taken = await tx.query(
      `UPDATE carillon.lanes SET restore_asked_us = $3
       WHERE business_id = $1 AND carrier_account_id = $2
         AND (restore_asked_us < $4 OR restore_asked_us > $3::bigint + $5) RETURNING 1`,
      [...key, now_us, now_us - every_ms * 1_000, CLOCK_SET_BACK_US],
    );
    if (taken.length === 0) return null;
    const [oldest] = await tx.query<{ since_ms: number | null }>(
      `SELECT (extract(epoch FROM min(created_at)) * 1000)::float8 AS since_ms FROM carillon.outbound_call_runs
       WHERE business_id = $1 AND status IN ('draft', 'pending', 'running', 'paused')`,
      [account.business_id],
    );
    return { since_ms: oldest?.since_ms ?? null, now_ms: now_us / 1_000 };
  });
}

/** What the carrier's list had to say about one account. */
export interface Settlement {
  /** Calls in the list to numbers of the business's leads. */
  listed: number;
  /** Of those, the ones that no attempt has. */
  forgotten: number;
  /** Jobs that would have been called again and are under review now. */
  reviewed: number;
}

export async function accountIsSettled(
  db: Database,
  { business_id, carrier_account_id }: AccountToSettle,
  restores: number,
  settlement: Settlement,
  actor: Actor,
): Promise<void> {
  await inBusiness(db, business_id, 'restore_settled', async (tx) => {
    const rows = await tx.query(
      `UPDATE carillon.lanes SET restores_settled = $3, restore_problem = NULL
       WHERE business_id = $1 AND carrier_account_id = $2 AND restores_settled < $3 RETURNING 1`,
      [business_id, carrier_account_id, restores],
    );
    if (rows.length === 0) return;
    trail(tx, actor, {
      action: 'restore.reconciled',
      subject: { type: 'carrier_account', id: carrier_account_id },
      after: { restores, ...settlement },
    });
  });
}

/** Why an account could not be settled yet, for whoever asks. */
export async function accountIsUnsettled(db: Database, account: AccountToSettle, problem: string): Promise<void> {
  await inBusiness(db, account.business_id, (tx) =>
    tx.query('UPDATE carillon.lanes SET restore_problem = $3 WHERE business_id = $1 AND carrier_account_id = $2', [
      account.business_id,
      account.carrier_account_id,
      problem,
    ]),
  );
}
