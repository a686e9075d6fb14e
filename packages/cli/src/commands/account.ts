import { readFile } from 'node:fs/promises';
import {
  type BusinessId,
  type CarrierAccount,
  CarillonError,
  CreateCarrierAccount,
  offeredDrivers,
} from '@carillon/contract';
import { createCarrierAccount, listCarrierAccounts } from '@carillon/engine';
import { CLI } from '../actor.ts';
import type { CommandContext } from '../context.ts';
import { wrongUse } from '../errors.ts';
import { openDrivers, secretOf, withDatabase } from '../installation.ts';
import { table } from '../output.ts';

interface NewAccount {
  business: BusinessId;
  name?: string;
  clientValidation?: string;
  driver: string;
  baseUrl: string;
  sid: string;
  tokenEnv: string;
  from: string[];
  lines: number;
  rate: number;
}

/** The secret comes from the environment, since a command line stands in histories and process lists. */
export async function accountCreateCommand(context: CommandContext, options: NewAccount): Promise<void> {
  const { config, output } = context;
  const auth_token = context.env[options.tokenEnv];
  if (!auth_token)
    throw wrongUse(
      'token_missing',
      `The variable ${options.tokenEnv} is not set: expected the account's auth token in it`,
    );
  const offered = offeredDrivers(openDrivers(config));
  if (!offered.includes(options.driver))
    throw new CarillonError('unknown_driver', { driver: options.driver, known: offered.join(', ') });
  const input = CreateCarrierAccount.safeParse({
    name: options.name ?? options.sid,
    driver: options.driver,
    base_url: options.baseUrl,
    account_sid: options.sid,
    auth_token,
    from_numbers: options.from,
    concurrency_limit: options.lines,
    calls_per_second: options.rate,
    client_validation: options.clientValidation && (await readKeyFile(options.clientValidation)),
  });
  if (!input.success) {
    const problems = input.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    throw wrongUse('invalid_account', `The account is not valid: ${problems.join('; ')}`);
  }
  const account = await withDatabase(context, (db, installation) =>
    createCarrierAccount(db, options.business, input.data, secretOf(installation), CLI),
  );
  output.say(`Created carrier account ${account.carrier_account_id} (${account.name}).`);
  output.result(account);
}

/** What is in the file is checked with the rest of the account; nothing of it is told. */
async function readKeyFile(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    const reason = error instanceof SyntaxError ? 'it is not JSON' : (error as NodeJS.ErrnoException).code;
    throw wrongUse('invalid_account', `${file} can not be read as JSON (${reason}): expected client_validation in it`);
  }
}

const PAGE_ITEMS = 100;

export async function accountListCommand(
  context: CommandContext,
  options: { business: BusinessId; after?: number },
): Promise<void> {
  const { output } = context;
  const page = await withDatabase(context, (db) =>
    listCarrierAccounts(db, options.business, { after: options.after, limit: PAGE_ITEMS }),
  );
  if (page.items.length === 0) output.say(`Business ${options.business} has no carrier account.`);
  else for (const line of table([HEADER, ...page.items.map(accountRow)])) output.say(line);
  if (page.next) output.say(`There are more: --after ${page.next}`);
  output.result(page);
}

const HEADER = ['ID', 'NAME', 'DRIVER', 'LINES', 'CALLS/S', 'FROM', 'AT', 'STATE'];

function accountRow(account: CarrierAccount): string[] {
  return [
    String(account.carrier_account_id),
    account.name,
    account.driver,
    String(account.concurrency_limit),
    String(account.calls_per_second),
    account.from_numbers.join(' '),
    account.base_url,
    account.halted_reason === null ? 'calling' : `halted: ${account.halted_reason}`,
  ];
}
