import type { AnswerScript, CarrierAccountId } from '@carillon/contract';
import type { Database } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import type { AttemptKey } from './attempt.ts';

/**
 * What a lead who answers is told: the run's script, or null for a call that nobody wants (its attempt is closed or
 * unknown, a newer one exists, or somebody asked for it to be hung up). Calls that a stop drains get their answer.
 */
export async function readAnswer(
  db: Database,
  key: AttemptKey,
): Promise<{ carrier_account_id: CarrierAccountId; script: AnswerScript } | null> {
  const [row] = await inBusiness(db, key.business_id, (tx) =>
    tx.query<{ carrier_account_id: CarrierAccountId; script: AnswerScript }>(
      `SELECT o.carrier_account_id, r.answer AS script FROM carillon.open_attempts o
       JOIN carillon.outbound_call_runs r ON r.business_id = o.business_id AND r.run_id = o.run_id
       WHERE o.business_id = $1 AND o.run_id = $2 AND o.seq = $3 AND o.token = $4 AND o.hang_up IS NULL`,
      [key.business_id, key.run_id, key.seq, key.token],
    ),
  );
  return row ?? null;
}
