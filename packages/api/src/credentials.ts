import { type BusinessId, type CarrierAccountId, CarillonError, type CarrierCredentials } from '@carillon/contract';
import { readCredentials } from '@carillon/engine';
import type { ApiContext } from './context.ts';

/** Reads an account's credentials inside its business; null when the business has no such account. */
export type ReadCredentials = (
  business_id: BusinessId,
  carrier_account_id: CarrierAccountId,
) => Promise<CarrierCredentials | null>;

/**
 * Remembers credentials for a short while: a call brings half a dozen callbacks. What is not there is remembered too, so
 * that somebody who tries addresses costs no more than somebody who calls. The oldest entry leaves when it is full.
 */
export function cacheCredentials(context: ApiContext): ReadCredentials {
  const { credentials_cache_ms, credentials_cache_entries } = context.api_limits;
  const cache = new Map<string, { read: Promise<CarrierCredentials | null>; until_ms: number }>();
  return async (business_id, carrier_account_id) => {
    const name = `${business_id}/${carrier_account_id}`;
    const now_ms = context.clock.monotonicMs();
    const known = cache.get(name);
    if (known && now_ms < known.until_ms) return await known.read;
    cache.delete(name);
    const [oldest] = cache.keys();
    if (oldest !== undefined && cache.size >= credentials_cache_entries) cache.delete(oldest);
    const read = readIfThere(context, business_id, carrier_account_id);
    const entry = { read, until_ms: now_ms + credentials_cache_ms };
    cache.set(name, entry);
    // A failure is no answer; the next one asks again.
    read.catch(() => cache.get(name) === entry && cache.delete(name));
    return await read;
  };
}

async function readIfThere(
  context: ApiContext,
  business_id: BusinessId,
  carrier_account_id: CarrierAccountId,
): Promise<CarrierCredentials | null> {
  try {
    return await readCredentials(context.db, business_id, carrier_account_id, context.secret);
  } catch (error) {
    if (error instanceof CarillonError && error.code === 'carrier_account_not_found') return null;
    throw error;
  }
}
