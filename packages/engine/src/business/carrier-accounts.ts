import type { BusinessId, CarrierAccount, CarrierCredentials, CreateCarrierAccount } from '@carillon/contract';
import { CarillonError, CarrierAccountId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { reserveId } from '../db/reserve-id.ts';
import { keysetPage, type Page } from '../run/read.ts';
import { packSecrets, unpackSecrets } from './account-secrets.ts';
import { readBusiness } from './business.ts';
import { openSecret, sealSecret } from './secrets.ts';

/**
 * Creates a carrier account and its lane, both or neither. The secret is kept sealed under `secret_key` (32 bytes) and
 * never shown again. Whether the driver is known is for the caller to check: the engine knows no drivers. Throws
 * `invalid_request` for a business that does not exist or a key that can't sign, and `from_number_taken`.
 */
export async function createCarrierAccount(
  db: Database,
  business_id: BusinessId,
  input: CreateCarrierAccount,
  secret_key: Buffer,
  actor: Actor,
): Promise<CarrierAccount> {
  const secrets = packSecrets(input);
  // The id comes first: the sealed secret is bound to it.
  const carrier_account_id = await reserveId(db, 'carrier_accounts', 'carrier_account_id', CarrierAccountId);
  const sealed = sealSecret(secret_key, business_id, carrier_account_id, secrets);
  const base_url = input.base_url.replace(/\/+$/, '');
  return await inBusiness(db, business_id, async (tx) => {
    await readBusiness(tx);
    await refuseTakenNumbers(tx, { ...input, base_url });
    tx.send(
      `INSERT INTO carillon.carrier_accounts (business_id, carrier_account_id, name, driver, base_url, account_sid,
         auth_token_sealed, from_numbers)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
      [
        business_id,
        carrier_account_id,
        input.name,
        input.driver,
        base_url,
        input.account_sid,
        sealed,
        input.from_numbers,
      ],
      1,
    );
    tx.send(
      `INSERT INTO carillon.lanes (business_id, carrier_account_id, concurrency_limit, calls_per_second)
       VALUES ($1, $2, $3, $4)`,
      [business_id, carrier_account_id, input.concurrency_limit, input.calls_per_second],
      1,
    );
    const { driver, concurrency_limit, calls_per_second } = input;
    trail(tx, actor, {
      action: 'carrier_account.created',
      subject: { type: 'carrier_account', id: carrier_account_id },
      after: {
        driver,
        concurrency_limit,
        calls_per_second,
        from_numbers: input.from_numbers.length,
        client_validation: input.client_validation !== undefined,
      },
    });
    const [account] = await readAccounts(tx, carrier_account_id, 0, 1);
    if (!account) throw new Error('a carrier account was inserted and is not there');
    return account;
  });
}

/**
 * A call whose answer was lost is looked for in its carrier account's list by its two numbers. Were one account at the
 * carrier entered twice with the same number, an attempt of the one could be taken for a call of the other.
 */
async function refuseTakenNumbers(
  tx: Tx,
  input: Pick<CreateCarrierAccount, 'base_url' | 'account_sid' | 'from_numbers'>,
): Promise<void> {
  // Of two that are created at once, the second reads after the first has committed.
  await tx.query('SELECT 1 FROM carillon.businesses WHERE business_id = $1 FOR NO KEY UPDATE', [tx.business_id]);
  const [other] = await tx.query<{ carrier_account_id: number; from_numbers: string[] }>(
    `SELECT carrier_account_id, from_numbers FROM carillon.carrier_accounts
     WHERE business_id = $1 AND base_url = $2 AND account_sid = $3 AND from_numbers && $4 LIMIT 1`,
    [tx.business_id, input.base_url, input.account_sid, input.from_numbers],
  );
  if (!other) return;
  const from_number = input.from_numbers.find((number) => other.from_numbers.includes(number));
  throw new CarillonError('from_number_taken', { from_number, carrier_account_id: other.carrier_account_id });
}

/**
 * The same carrier, at another address, with the same calls: what is under way is asked about there from now on. Throws
 * `carrier_account_not_found` and `from_number_taken`.
 */
export async function moveCarrierAccount(
  db: Database,
  business_id: BusinessId,
  carrier_account_id: CarrierAccountId,
  new_url: string,
  actor: Actor,
): Promise<void> {
  const base_url = new_url.replace(/\/+$/, '');
  await inBusiness(db, business_id, async (tx) => {
    const [was] = await tx.query<{ base_url: string; account_sid: string; from_numbers: string[] }>(
      `SELECT base_url, account_sid, from_numbers FROM carillon.carrier_accounts
       WHERE business_id = $1 AND carrier_account_id = $2 FOR NO KEY UPDATE`,
      [business_id, carrier_account_id],
    );
    if (!was) throw new CarillonError('carrier_account_not_found');
    if (was.base_url === base_url) return;
    await refuseTakenNumbers(tx, { ...was, base_url });
    tx.send(
      'UPDATE carillon.carrier_accounts SET base_url = $3 WHERE business_id = $1 AND carrier_account_id = $2',
      [business_id, carrier_account_id, base_url],
      1,
    );
    trail(tx, actor, {
      action: 'carrier_account.moved',
      subject: { type: 'carrier_account', id: carrier_account_id },
      before: { base_url: was.base_url },
      after: { base_url },
    });
  });
}

/** The business's carrier accounts with their lanes, oldest first, without their secrets. */
export async function listCarrierAccounts(
  db: Database,
  business_id: BusinessId,
  options: { after?: number | undefined; limit: number },
): Promise<Page<CarrierAccount>> {
  const accounts = await inBusiness(db, business_id, (tx) =>
    readAccounts(tx, null, options.after ?? 0, options.limit + 1),
  );
  return keysetPage(accounts, options.limit, (account) => String(account.carrier_account_id));
}

/** What a driver needs to speak for an account, the secret opened. Throws `carrier_account_not_found`. */
export async function readCredentials(
  db: Database,
  business_id: BusinessId,
  carrier_account_id: number,
  secret_key: Buffer,
): Promise<CarrierCredentials> {
  const [row] = await inBusiness(db, business_id, (tx) =>
    tx.query<Pick<CarrierCredentials, 'driver' | 'base_url' | 'account_sid'> & { auth_token_sealed: Buffer }>(
      `SELECT driver, base_url, account_sid, auth_token_sealed FROM carillon.carrier_accounts
       WHERE business_id = $1 AND carrier_account_id = $2`,
      [business_id, carrier_account_id],
    ),
  );
  if (!row) throw new CarillonError('carrier_account_not_found');
  const { auth_token_sealed, ...account } = row;
  const text = openSecret(secret_key, business_id, CarrierAccountId.parse(carrier_account_id), auth_token_sealed);
  return { ...account, ...unpackSecrets(text) };
}

/** A person says that a halted lane may call again. Throws `carrier_account_not_found`. */
export async function resumeLane(
  db: Database,
  business_id: BusinessId,
  carrier_account_id: CarrierAccountId,
  actor: Actor,
): Promise<CarrierAccount> {
  return await inBusiness(db, business_id, 'lane_resume', async (tx) => {
    const [was] = await tx.query<{ halted_reason: string | null; refusals_in_a_row: number }>(
      `SELECT halted_reason, refusals_in_a_row FROM carillon.lanes
       WHERE business_id = $1 AND carrier_account_id = $2 FOR NO KEY UPDATE`,
      [business_id, carrier_account_id],
    );
    if (was && (was.halted_reason !== null || was.refusals_in_a_row > 0))
      trail(tx, actor, {
        action: 'lane.resumed',
        subject: { type: 'carrier_account', id: carrier_account_id },
        before: { ...was },
        after: { halted_reason: null, refusals_in_a_row: 0 },
      });
    tx.send(
      `UPDATE carillon.lanes SET halted_reason = NULL, halted_until_us = NULL, refusals_in_a_row = 0
       WHERE business_id = $1 AND carrier_account_id = $2`,
      [business_id, carrier_account_id],
    );
    const [account] = await readAccounts(tx, carrier_account_id, 0, 1);
    if (!account) throw new CarillonError('carrier_account_not_found');
    return account;
  });
}

interface AccountRow extends Omit<CarrierAccount, 'halted_until'> {
  halted_until_us: number | null;
}

async function readAccounts(tx: Tx, only: CarrierAccountId | null, after: number, limit: number) {
  // A halt whose end has come is none any more, whether or not a claim has noticed it.
  const rows = await tx.query<AccountRow>(
    `SELECT a.carrier_account_id, a.name, a.driver, a.base_url, a.account_sid, a.from_numbers,
            l.concurrency_limit, l.calls_per_second,
            CASE WHEN l.halted_until_us <= c.now_us THEN NULL ELSE l.halted_reason END AS halted_reason,
            CASE WHEN l.halted_until_us <= c.now_us THEN NULL ELSE l.halted_until_us END AS halted_until_us
     FROM carillon.carrier_accounts a
     JOIN carillon.lanes l ON l.business_id = a.business_id AND l.carrier_account_id = a.carrier_account_id
     CROSS JOIN (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us) c
     WHERE a.business_id = $1 AND a.carrier_account_id > $2 AND ($3::bigint IS NULL OR a.carrier_account_id = $3)
     ORDER BY a.carrier_account_id LIMIT $4`,
    [tx.business_id, after, only, limit],
  );
  return rows.map(
    ({ halted_until_us, ...account }): CarrierAccount => ({
      ...account,
      halted_until: halted_until_us === null ? null : new Date(halted_until_us / 1_000).toISOString(),
    }),
  );
}
