import {
  type BusinessId,
  CarrierAccountId,
  type CarrierCredentials,
  type CarrierDriver,
  type CarrierDrivers,
} from '@carillon/contract';
import type { Actor, Clock, Database, Gatherer, Limits } from '@carillon/engine';
import { readCredentials } from '@carillon/engine';
import type { Logger } from 'pino';

/** What every stage of the worker works with. */
export interface WorkerContext {
  db: Database;
  worker_id: string;
  /** In the trail, for what it does and for what it learns of calls. */
  actor: Actor;
  clock: Clock;
  limits: Limits;
  log: Logger;
  gatherer: Gatherer;
  /** Where carriers reach the API from outside. */
  public_url: string;
  account(business_id: BusinessId, carrier_account_id: number): Promise<Account>;
  stopping(): boolean;
}

export interface Account {
  credentials: CarrierCredentials;
  driver: CarrierDriver;
}

const ACCOUNT_TTL_MS = 10_000;
const ACCOUNTS_KEPT = 1_000;

/** Reads accounts with their secrets opened, and keeps each for some seconds: a changed token is in force soon. */
export function createAccounts(options: { db: Database; secret: Buffer; drivers: CarrierDrivers; clock: Clock }) {
  const kept = new Map<string, { until_ms: number; account: Promise<Account> }>();
  return async (business_id: BusinessId, carrier_account_id: number): Promise<Account> => {
    const name = `${business_id}/${carrier_account_id}`;
    const now_ms = options.clock.monotonicMs();
    const known = kept.get(name);
    if (known && known.until_ms > now_ms) return await known.account;
    if (kept.size >= ACCOUNTS_KEPT) kept.clear();
    const account = open(options, business_id, carrier_account_id);
    kept.set(name, { until_ms: now_ms + ACCOUNT_TTL_MS, account });
    account.catch(() => kept.delete(name));
    return await account;
  };
}

async function open(
  options: { db: Database; secret: Buffer; drivers: CarrierDrivers },
  business_id: BusinessId,
  carrier_account_id: number,
): Promise<Account> {
  const credentials = await readCredentials(
    options.db,
    business_id,
    CarrierAccountId.parse(carrier_account_id),
    options.secret,
  );
  const driver = options.drivers.get(credentials.driver);
  if (!driver) throw new Error(`no carrier driver is called "${credentials.driver}"`);
  return { credentials, driver };
}
