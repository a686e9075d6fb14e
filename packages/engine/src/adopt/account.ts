import { type BusinessId, CarrierAccountId, type RunId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import { type Database, inBusiness, type Tx } from '../db/database.ts';
import { reserveId } from '../db/reserve-id.ts';
import { lockRun } from '../run/row.ts';
import { AdoptError } from './errors.ts';

/** The account through which adopted runs will call. */
export interface AdoptAccount {
  carrier_account_id: number;
  concurrency_limit: number;
}

/** A driver that nobody has. */
const NOBODY = 'none';
/** Of the stand-in, which calls nobody anyway: its runs keep the number of calls at once that they had. */
const LINES = 10_000;
const STAND_IN_HALT = 'adopted without a carrier account: create one, then adopt again';

/**
 * The account of a business that takes its adopted runs: the one that is named where the business has it, or its only
 * one. Null: it has none. Throws `adopt_account_missing` where it has several and none is named.
 */
export async function findAccount(tx: Tx, wanted: number | undefined): Promise<AdoptAccount | null> {
  const accounts = await tx.query<AdoptAccount>(
    `SELECT l.carrier_account_id, l.concurrency_limit FROM carillon.lanes l
     JOIN carillon.carrier_accounts a ON a.business_id = l.business_id AND a.carrier_account_id = l.carrier_account_id
     WHERE l.business_id = $1 AND a.driver <> $2 ORDER BY l.carrier_account_id`,
    [tx.business_id, NOBODY],
  );
  const named = accounts.find((account) => account.carrier_account_id === wanted);
  if (named) return named;
  if (accounts.length > 1)
    throw new AdoptError(
      'adopt_account_missing',
      `Business ${tx.business_id} has ${accounts.length} carrier accounts (${accounts.map((account) => account.carrier_account_id).join(', ')}); name the one for its adopted runs with --carrier-account`,
    );
  return accounts[0] ?? null;
}

/**
 * The account for a business's adopted runs. Where it has none, a stand-in is made that calls nobody: halted until a
 * person says otherwise, with a driver that does not exist. Runs that have one are moved to the business's account as
 * soon as it has one.
 */
export async function accountForRuns(
  db: Database,
  business_id: BusinessId,
  wanted: number | undefined,
  actor: Actor,
): Promise<AdoptAccount> {
  const [account, stand_in] = await inBusiness(db, business_id, async (tx) => [
    await findAccount(tx, wanted),
    await findStandIn(tx),
  ]);
  return account ?? stand_in ?? (await makeStandIn(db, business_id, actor));
}

/**
 * Moves the runs that wait with a stand-in to the account that the business has by now, and takes the stand-in away. A
 * run that somebody has let go on, and that has a call open, stays until the next time. Returns how many were moved.
 */
export async function replaceStandIn(
  db: Database,
  business_id: BusinessId,
  wanted: number | undefined,
  actor: Actor,
): Promise<number> {
  const { stand_in, account } = await inBusiness(db, business_id, async (tx) => {
    const found = await findStandIn(tx);
    return { stand_in: found, account: found && (await findAccount(tx, wanted)) };
  });
  if (stand_in === null || account === null) return 0;
  const from = stand_in.carrier_account_id;
  let moved = 0;
  for (let some = RUNS_AT_ONCE; some > 0; moved += some)
    some = await inBusiness(db, business_id, (tx) => moveRuns(tx, from, account, actor));
  await inBusiness(db, business_id, (tx) => removeUnused(tx, from));
  return moved;
}

async function findStandIn(tx: Tx): Promise<AdoptAccount | null> {
  const [stand_in] = await tx.query<AdoptAccount>(
    `SELECT l.carrier_account_id, l.concurrency_limit FROM carillon.lanes l
     JOIN carillon.carrier_accounts a ON a.business_id = l.business_id AND a.carrier_account_id = l.carrier_account_id
     WHERE l.business_id = $1 AND a.driver = $2 LIMIT 1`,
    [tx.business_id, NOBODY],
  );
  return stand_in ?? null;
}

async function makeStandIn(db: Database, business_id: BusinessId, actor: Actor): Promise<AdoptAccount> {
  const carrier_account_id = await reserveId(db, 'carrier_accounts', 'carrier_account_id', CarrierAccountId);
  await inBusiness(db, business_id, async (tx) => {
    tx.send(
      `INSERT INTO carillon.carrier_accounts (business_id, carrier_account_id, name, driver, base_url, account_sid,
         auth_token_sealed, from_numbers)
       VALUES ($1, $2, 'No carrier account yet', $3, 'https://carrier.invalid', 'none', '\\x', '{+10000000000}')`,
      [business_id, carrier_account_id, NOBODY],
      1,
    );
    tx.send(
      `INSERT INTO carillon.lanes (business_id, carrier_account_id, concurrency_limit, calls_per_second, halted_reason)
       VALUES ($1, $2, $3, 1, $4)`,
      [business_id, carrier_account_id, LINES, STAND_IN_HALT],
      1,
    );
    trail(tx, actor, {
      action: 'carrier_account.created',
      subject: { type: 'carrier_account', id: carrier_account_id },
      after: { driver: NOBODY, halted_reason: STAND_IN_HALT },
    });
  });
  return { carrier_account_id, concurrency_limit: LINES };
}

const RUNS_AT_ONCE = 100;

async function removeUnused(tx: Tx, carrier_account_id: number): Promise<void> {
  const key = [tx.business_id, carrier_account_id];
  const [left] = await tx.query(
    'SELECT 1 FROM carillon.outbound_call_runs WHERE business_id = $1 AND carrier_account_id = $2 LIMIT 1',
    key,
  );
  if (left) return;
  tx.send('DELETE FROM carillon.lanes WHERE business_id = $1 AND carrier_account_id = $2', key, 1);
  tx.send('DELETE FROM carillon.carrier_accounts WHERE business_id = $1 AND carrier_account_id = $2', key, 1);
}

async function moveRuns(tx: Tx, stand_in: number, account: AdoptAccount, actor: Actor): Promise<number> {
  const runs = await tx.query<{ run_id: RunId }>(
    `SELECT run_id FROM carillon.outbound_call_runs WHERE business_id = $1 AND carrier_account_id = $2
       AND in_progress = 0 ORDER BY run_id LIMIT $3`,
    [tx.business_id, stand_in, RUNS_AT_ONCE],
  );
  let moved = 0;
  for (const { run_id } of runs) {
    const run = await lockRun(tx, run_id);
    if (run.in_progress > 0) continue;
    moved++;
    // A lease names the account, so whoever has one must take another.
    tx.send(
      `UPDATE carillon.outbound_call_runs SET carrier_account_id = $3, locked_by_worker = NULL, lock_ts = NULL,
         updated_at = now()
       WHERE business_id = $1 AND run_id = $2`,
      [tx.business_id, run_id, account.carrier_account_id],
      1,
    );
    // No change of its state, which an ended run can't have any more.
    trail(tx, actor, {
      action: 'run.account_changed',
      subject: { type: 'run', id: run_id },
      before: { carrier_account_id: stand_in },
      after: { carrier_account_id: account.carrier_account_id },
    });
  }
  return moved;
}
