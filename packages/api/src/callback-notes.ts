import { type BusinessId, CarrierAccountId } from '@carillon/contract';
import { noteCallback } from '@carillon/engine';
import type { ApiContext } from './context.ts';
import { describeError } from './logging.ts';

/** Once in so long is enough to tell how old an account's last callback is; it must cost the callbacks nothing. */
const NOTE_EVERY_MS = 30_000;
const ACCOUNTS_KEPT = 10_000;

/** Notes that an account's carrier has sent a callback with its signature. Never waited for, and never fails. */
export function createCallbackNotes({ db, clock, log }: Pick<ApiContext, 'db' | 'clock' | 'log'>) {
  const noted = new Map<string, number>();
  return (business_id: BusinessId, carrier_account_id: number): void => {
    const account = `${business_id}/${carrier_account_id}`;
    const now_ms = clock.monotonicMs();
    if (now_ms - (noted.get(account) ?? Number.NEGATIVE_INFINITY) < NOTE_EVERY_MS) return;
    if (noted.size >= ACCOUNTS_KEPT) noted.clear();
    noted.set(account, now_ms);
    noteCallback(db, business_id, CarrierAccountId.parse(carrier_account_id)).catch((error: unknown) => {
      noted.delete(account);
      log.debug({ error: describeError(error) }, 'that a carrier called back was not noted');
    });
  };
}
