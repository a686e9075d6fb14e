import type { BusinessId } from '@carillon/contract';
import { type AccountState, findBusinesses, readAccountStates, readCredentials, sharedNumbers } from '@carillon/engine';
import { BOUNDS, type Check } from '../options.ts';
import { capital, type Finding } from '../prove.ts';

/** Evidence names this many accounts; the counts hold for all. */
const NAMED = 20;

/** The installation's accounts, as far as the bounds allow. */
export async function readAccounts({ db }: Check): Promise<{ accounts: AccountState[]; businesses_left_out: number }> {
  const { business_ids, all } = await findBusinesses(db, BOUNDS.businesses_max);
  const accounts: AccountState[] = [];
  for (const business_id of business_ids)
    accounts.push(...(await readAccountStates(db, business_id, BOUNDS.accounts_max)));
  return { accounts, businesses_left_out: all - business_ids.length };
}

export async function readOwnAccounts({ db }: Check, business_id: BusinessId): Promise<AccountState[]> {
  return await readAccountStates(db, business_id, BOUNDS.accounts_max);
}

/** Each account's secret opens with CARILLON_SECRET and its driver is known; with `ask_carrier`, its carrier answers. */
export async function lookAtCredentials(
  check: Check,
  accounts: readonly AccountState[],
  left_out = 0,
): Promise<Finding> {
  const refused: { business_id: number; carrier_account_id: number; why: string }[] = [];
  let asked = 0;
  for (const account of accounts) {
    const why = await tryCredentials(check, account);
    if (check.ask_carrier) asked++;
    if (why) refused.push({ business_id: account.business_id, carrier_account_id: account.carrier_account_id, why });
  }
  const evidence = {
    accounts: accounts.length,
    asked,
    businesses_left_out: left_out,
    refused: refused.slice(0, NAMED),
  };
  const [first] = refused;
  if (first)
    return {
      ok: false,
      sentence: `Carrier accounts that can't be used: ${refused.length} of ${accounts.length}; account ${first.carrier_account_id}: ${first.why}`,
      evidence,
    };
  const how = check.ask_carrier ? 'and their carriers take them' : 'no carrier was asked (--ask-carrier does)';
  return { ok: true, sentence: `Carrier accounts whose credentials open: ${accounts.length}; ${how}`, evidence };
}

const MINUTE_MS = 60_000;

/** What is wrong with an account's credentials; null: nothing. */
async function tryCredentials(
  check: Check,
  { business_id, carrier_account_id, driver: name, from_number }: AccountState,
) {
  const driver = check.drivers.get(name);
  if (!driver) return `no carrier driver is called "${name}"`;
  try {
    const credentials = await readCredentials(check.db, business_id, carrier_account_id, check.secret);
    if (!check.ask_carrier) return null;
    const now_ms = check.clock.wallMs();
    // From a number to itself there are no calls: the question is whether the carrier takes it.
    const listed = await driver.find(credentials, {
      to: from_number,
      from: from_number,
      created_from_ms: now_ms - MINUTE_MS,
      created_to_ms: now_ms,
    });
    return listed.kind === 'error' ? `its carrier answers: ${listed.cause}` : null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** From which one account at a carrier calls for several businesses: a lost call is looked for by its two numbers. */
export async function lookAtNumbers({ db }: Check): Promise<Finding> {
  const shared = await sharedNumbers(db);
  const evidence = { shared: shared.length, each: shared.slice(0, NAMED).map(({ accounts }) => accounts) };
  if (shared.length === 0)
    return { ok: true, sentence: 'No two businesses call from one number of one account at a carrier', evidence };
  return {
    ok: false,
    sentence: `Numbers of one account at a carrier from which several businesses call: ${shared.length}; where an answer is lost, a call of the one could be taken for the other’s. Give each its own number`,
    evidence,
  };
}

/** Lanes that are halted, and carriers that have gone silent about live calls. */
export function lookAtCarriers(accounts: readonly AccountState[]): Finding {
  const halted = accounts.filter(({ halted_reason }) => halted_reason !== null);
  const silent = accounts.filter(({ silent_calls }) => silent_calls > 0);
  const heard = accounts.flatMap(({ last_callback_age_s }) =>
    last_callback_age_s === null ? [] : [last_callback_age_s],
  );
  const evidence = {
    accounts: accounts.length,
    youngest_callback_age_s: heard.length > 0 ? Math.round(Math.min(...heard)) : null,
    never_heard: accounts.length - heard.length,
    each: accounts
      .slice(0, NAMED)
      .map(({ business_id, carrier_account_id, last_callback_age_s, silent_calls, halted_reason }) => ({
        business_id,
        carrier_account_id,
        last_callback_age_s: last_callback_age_s === null ? null : Math.round(last_callback_age_s),
        silent_calls,
        halted_reason,
      })),
  };
  const said = [
    halted.length > 0 && `carrier accounts that are halted: ${halted.length} (${halted[0]?.halted_reason})`,
    silent.length > 0 &&
      `carrier accounts whose carrier has said nothing of live calls for two minutes: ${silent.length}; do callbacks reach CARILLON_PUBLIC_URL?`,
  ].filter((what) => what !== false);
  if (said.length > 0) return { ok: true, warning: true, sentence: capital(said.join('; ')), evidence };
  const last = evidence.youngest_callback_age_s;
  const age = last === null ? 'no callback was ever received' : `the last callback came ${last} s ago`;
  return { ok: true, sentence: `No carrier account is halted; ${age}`, evidence };
}
