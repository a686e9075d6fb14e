import type { BusinessId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import { type Database, discover, inBusiness, type Tx } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { CLOCK_SET_BACK_US } from '../run/set-back.ts';

export interface UnwantedCall {
  business_id: BusinessId;
  carrier_account_id: number;
  call_id: string;
}

/** One whose turn is taken: since when it is known, and what the database's clock says now. */
export interface TakenCall extends UnwantedCall {
  seen_us: number;
  now_us: number;
}

/** The durable intent to hang up a call that no open attempt speaks for. */
export function wantGone(tx: Tx, carrier_account_id: number, call_id: string, reason: string): void {
  tx.send(
    `INSERT INTO carillon.unwanted_calls (business_id, carrier_account_id, call_id, reason) VALUES ($1, $2, $3, $4)
     ON CONFLICT (business_id, carrier_account_id, call_id) DO NOTHING`,
    [tx.business_id, carrier_account_id, call_id, reason],
  );
}

const CALLS_AT_ONCE = 100;
/** An account whose carrier does not take its orders leaves room for others. */
const CALLS_OF_AN_ACCOUNT = 20;

/** Calls that nobody wants and that nobody has asked to end in the last `hang_up_every_ms`; the turn is taken with it. */
export async function takeUnwanted(db: Database, limits: Limits): Promise<TakenCall[]> {
  const due = await discover<UnwantedCall>(
    db,
    `SELECT business_id, carrier_account_id, call_id
     FROM (
       SELECT business_id, carrier_account_id, call_id, asked_us,
              row_number() OVER (PARTITION BY business_id, carrier_account_id ORDER BY asked_us) AS nth
       FROM carillon.unwanted_calls, (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us) clock
       WHERE over_at IS NULL AND (asked_us < now_us - $1::bigint * 1000 OR asked_us > now_us + $3::bigint)) due
     WHERE nth <= $4 ORDER BY nth, asked_us LIMIT $2`,
    [limits.hang_up_every_ms, CALLS_AT_ONCE, CLOCK_SET_BACK_US, CALLS_OF_AN_ACCOUNT],
  );
  const mine: TakenCall[] = [];
  for (const call of due) {
    const [taken] = await inBusiness(db, call.business_id, 'take_unwanted', (tx) =>
      tx.query<Pick<TakenCall, 'seen_us' | 'now_us'>>(
        `WITH free AS MATERIALIZED (
           SELECT call_id FROM carillon.unwanted_calls
           WHERE business_id = $1 AND carrier_account_id = $2 AND call_id = $3 AND over_at IS NULL
             AND (asked_us < (extract(epoch FROM now()) * 1000000)::bigint - $4::bigint * 1000
               OR asked_us > (extract(epoch FROM now()) * 1000000)::bigint + $5::bigint)
           FOR UPDATE SKIP LOCKED)
         UPDATE carillon.unwanted_calls u SET asked_us = (extract(epoch FROM now()) * 1000000)::bigint
         FROM free WHERE u.business_id = $1 AND u.carrier_account_id = $2 AND u.call_id = free.call_id
         RETURNING (extract(epoch FROM u.seen_at) * 1000000)::bigint AS seen_us, u.asked_us AS now_us`,
        [call.business_id, call.carrier_account_id, call.call_id, limits.hang_up_every_ms, CLOCK_SET_BACK_US],
      ),
    );
    if (taken) mine.push({ ...call, ...taken });
  }
  return mine;
}

/** The carrier showed a final status: the intent is done. */
export async function unwantedIsOver(db: Database, call: UnwantedCall): Promise<void> {
  await inBusiness(db, call.business_id, 'unwanted_over', (tx) =>
    tx.query(
      `UPDATE carillon.unwanted_calls SET over_at = now()
       WHERE business_id = $1 AND carrier_account_id = $2 AND call_id = $3`,
      [call.business_id, call.carrier_account_id, call.call_id],
    ),
  );
}

/**
 * A validly signed callback for an attempt that the database does not know: the database has forgotten calls (a backup
 * restored, a failover that lost commits). The call is hung up and the lane takes no more until a person says so.
 */
export async function reportForgottenCall(
  db: Database,
  business_id: BusinessId,
  carrier_account_id: number,
  call_id: string,
  actor: Actor,
): Promise<void> {
  await inBusiness(db, business_id, 'forgotten', async (tx) => {
    const params = [business_id, carrier_account_id];
    const [lane] = await tx.query<{ halted_reason: string | null; for_good: boolean }>(
      `SELECT halted_reason, halted_reason IS NOT NULL AND halted_until_us IS NULL AS for_good FROM carillon.lanes
       WHERE business_id = $1 AND carrier_account_id = $2 FOR NO KEY UPDATE`,
      params,
    );
    const [known] = await tx.query(
      `SELECT 1 FROM carillon.unwanted_calls WHERE business_id = $1 AND carrier_account_id = $2 AND call_id = $3`,
      [...params, call_id],
    );
    const subject = { type: 'carrier_account', id: carrier_account_id } as const;
    // A call tells of itself several times, also after a person has let the lane go on.
    if (known) return;
    trail(tx, actor, { action: 'access.forgotten_call', subject, after: { call_id } });
    wantGone(tx, carrier_account_id, call_id, FORGOTTEN_CALL);
    tx.send(
      `UPDATE carillon.lanes SET halted_reason = $3, halted_until_us = NULL
       WHERE business_id = $1 AND carrier_account_id = $2`,
      [...params, FORGOTTEN_CALL_HALT],
    );
    if (lane && !lane.for_good)
      trail(tx, actor, {
        action: 'lane.halted',
        subject,
        before: { halted_reason: lane.halted_reason },
        after: { halted_reason: FORGOTTEN_CALL_HALT, halted_until: null },
      });
  });
}

/** Why a call is unwanted that the database has forgotten, and why a lane is halted for one. */
export const FORGOTTEN_CALL = 'not known to the database';
export const FORGOTTEN_CALL_HALT = 'a call that the database does not know';
