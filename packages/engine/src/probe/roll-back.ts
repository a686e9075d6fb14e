import type { BusinessId } from '@carillon/contract';
import { type Database, inBusiness, type Tx } from '../db/database.ts';

/** Carries what a probe has seen out of the transaction that it rolls back. */
class RolledBack<T> extends Error {
  readonly seen: T;
  constructor(seen: T) {
    super('rolled back, as it was meant to be');
    this.seen = seen;
  }
}

/** Runs `work` in a transaction of `business_id` that is always rolled back. */
export async function rolledBack<T>(db: Database, business_id: BusinessId, work: (tx: Tx) => Promise<T>): Promise<T> {
  try {
    return await inBusiness(db, business_id, async (tx) => {
      throw new RolledBack(await work(tx));
    });
  } catch (error) {
    if (error instanceof RolledBack) return error.seen as T;
    throw error;
  }
}
