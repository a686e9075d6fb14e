import type { BehaviourInput } from '@carillon/carrier-sim';
import type { Policy } from '@carillon/contract';
import { createBusiness, localActor, openDatabase } from '@carillon/engine';
import { z } from 'zod';
import type { Client } from './client.ts';
import type { Installation } from './installation.ts';
import { TRIAL } from './limits.ts';
import type { Random } from './random.ts';

type Lane = NonNullable<BehaviourInput['accounts']>[string];

/** What a business is like: its carrier's habits, which are no faults, and what it wants done about them. */
interface Kind {
  name: string;
  policy: Partial<Policy>;
  carrier: Lane;
  /** 1 when left out. Each list is called through all of them at once, by a run for each. */
  accounts?: number;
}

const BRISK: Lane = {
  ring_ms: [100, 700],
  talk_ms: [200, 1_800],
  response_delay_ms: [0, 20],
  outcomes: { answered: 1 },
};

const KINDS: readonly Kind[] = [
  { name: 'a good line, twice, for the same people', policy: {}, carrier: BRISK, accounts: 2 },
  {
    name: 'people who are busy or out',
    policy: { retry: { busy: { times: 2, after_s: 1 }, no_answer: { times: 1, after_s: 2 } } },
    carrier: { ...BRISK, outcomes: { answered: 60, busy: 20, no_answer: 20 } },
  },
  {
    name: 'a carrier that loses answers',
    policy: { retry: { failed: { times: 1, after_s: 1 } } },
    carrier: {
      ...BRISK,
      outcomes: { answered: 95, failed: 5 },
      lose_response: 0.02,
      effect_delay_ms: [0, 400],
      listing_lag_ms: 500,
    },
  },
  {
    name: 'callbacks that come late, twice, in any order or not at all',
    policy: {},
    carrier: {
      ...BRISK,
      outcomes: { answered: 90, busy: 10 },
      callback: { delay_ms: [0, 300], duplicate: 0.2, reorder: 0.2, drop: 0.1 },
      refuse: { code: 20_429, probability: 0.01 },
    },
  },
  {
    name: 'numbers that are refused, and reviews by policy',
    policy: { review_always: true },
    carrier: { ...BRISK, refuse: { code: 21_211, probability: 0.03 }, listing_lag_ms: 200 },
  },
];

/** A carrier account, and the limits of its lane. */
export interface Account {
  account_sid: string;
  carrier_account_id: number;
  lines: number;
  calls_per_second: number;
}

export interface Business {
  business_id: number;
  name: string;
  key: string;
  policy: Partial<Policy>;
  accounts: Account[];
  /** In the order in which they are to be started. */
  campaigns: Campaign[];
}

/** A list of people whom a run will call. Nobody is in two lists, and a list has one run for each account. */
export interface Campaign {
  list_id: number;
  carrier_account_id: number;
  leads: number;
  concurrency: number;
  /** Since the beginning of the faults. */
  starts_at_ms: number;
}

const Created = z.object({ carrier_account_id: z.number() });
const List = z.object({ list_id: z.number() });
const Imported = z.object({ accepted: z.number() });

/** Lanes are this much faster than they would have to be if nothing went wrong. */
const RESERVE = 4;
const SLOWEST_PER_SECOND = 8;
const LINES_PER_START = 3;
/** A run may use this part of its lane's lines, so that it lasts and others run beside it. */
const RUN_LINES_LEAST = 10;
const RUN_LINES_MOST = 3;
/** Runs start until then, so that some still go on when the last fault is over. */
const STARTS_WITHIN = 0.9;
const RUNS_LEAST = 4;
const RUNS_MOST = 12;

/** Everything there is before the first fault: businesses, their carrier accounts, and lists of fictional numbers. */
export async function createBusinesses(
  here: Installation,
  client: Client,
  random: Random,
  wanted: { leads: number; minutes: number },
): Promise<Business[]> {
  const db = openDatabase({ app_url: here.postgres.appUrl });
  const businesses: Business[] = [];
  let number = 0;
  for (const [index, kind] of KINDS.entries()) {
    const leads = Math.floor(wanted.leads / KINDS.length) + (index < wanted.leads % KINDS.length ? 1 : 0);
    const people = Math.ceil(leads / (kind.accounts ?? 1));
    const { business_id, key } = await createBusiness(db, { name: kind.name }, localActor('chaos'));
    const calls_per_second = Math.max(SLOWEST_PER_SECOND, Math.ceil((RESERVE * people) / (wanted.minutes * 60)));
    const lines = LINES_PER_START * calls_per_second;
    const accounts: Account[] = [];
    for (let n = 0; n < (kind.accounts ?? 1); n++) {
      const account_sid = n === 0 ? `AC${business_id}` : `AC${business_id}x${n}`;
      await here.carrier.behave(account_sid, kind.carrier);
      const account = { account_sid, lines, calls_per_second };
      accounts.push({ ...account, carrier_account_id: await createAccount(here, client, key, account) });
    }
    const sizes = divide(people, random);
    const starts = sizes.map(() => random.next() * STARTS_WITHIN * wanted.minutes * 60_000).sort((a, b) => a - b);
    const campaigns: Campaign[] = [];
    for (const [n, size] of sizes.entries()) {
      const list_id = await createList(client, key, number, size);
      number += size;
      const starts_at_ms = n === 0 ? 0 : (starts[n] ?? 0);
      for (const { carrier_account_id } of accounts) {
        const concurrency = random.whole(Math.ceil(lines / RUN_LINES_LEAST), Math.ceil(lines / RUN_LINES_MOST));
        campaigns.push({ list_id, carrier_account_id, leads: size, concurrency, starts_at_ms });
      }
    }
    const { name, policy } = kind;
    businesses.push({ business_id, name, key, policy, accounts, campaigns });
  }
  await db.close();
  return businesses;
}

async function createAccount(
  here: Installation,
  client: Client,
  key: string,
  { account_sid, lines, calls_per_second }: Omit<Account, 'carrier_account_id'>,
): Promise<number> {
  const made = await client.ask(key, 'POST', '/api/carrier_accounts', {
    name: account_sid,
    driver: 'twilio',
    base_url: here.carrier_base_url,
    account_sid,
    auth_token: 'token',
    from_numbers: ['+97231110000', '+97231110001'],
    concurrency_limit: lines,
    calls_per_second,
  });
  return Created.parse(made.body).carrier_account_id;
}

/** Into runs of different sizes. */
function divide(leads: number, random: Random): number[] {
  const sizes: number[] = [];
  const most = Math.min(TRIAL.lead_run_most, Math.ceil(leads / RUNS_LEAST));
  for (let left = leads; left > 0; ) {
    const size = Math.min(left, random.whole(Math.max(1, Math.min(most, Math.ceil(leads / RUNS_MOST / 2))), most));
    sizes.push(size);
    left -= size;
  }
  return sizes;
}

const FIRST_NUMBER = 3_000_000;

async function createList(client: Client, key: string, first: number, leads: number): Promise<number> {
  const made = await client.ask(key, 'POST', '/api/lists', { name: `From ${first}` });
  const { list_id } = List.parse(made.body);
  const numbers = Array.from({ length: leads }, (_, i) => `+97252${FIRST_NUMBER + first + i}`);
  const imported = await client.ask(key, 'POST', `/api/lists/${list_id}/import`, ['phone', ...numbers].join('\n'));
  const { accepted } = Imported.parse(imported.body);
  if (accepted !== leads) throw new Error(`the import took ${accepted} of ${leads} leads`);
  return list_id;
}
