import { BusinessId } from '@carillon/contract';
import type { CountryCode } from 'libphonenumber-js/min';
import type { Actor } from '../actor.ts';
import { installationTrail } from '../audit/installation-trail.ts';
import { trail } from '../audit/trail.ts';
import { readBusiness } from '../business/business.ts';
import { parseCountry } from '../business/country.ts';
import { type Database, discover, inBusiness, type Tx } from '../db/database.ts';
import { reserveId } from '../db/reserve-id.ts';
import { AdoptError } from './errors.ts';
import { moveSequencePast } from './ids.ts';
import { emptyTally, type Tally } from './tally.ts';

/** A business of the old installation, and the one here that takes its rows. */
export interface AdoptingBusiness {
  /** Its id in the old tables, as text; '' for rows that name none. */
  old_business: string;
  /** Null in a dry run, for one that is yet to be made. */
  business_id: BusinessId | null;
  /** Null in a dry run of an adoption that has not begun. */
  adoption_id: number | null;
  /** It was made for this adoption. */
  made: boolean;
  country: CountryCode;
  jobs_cursor: number;
  tally: Tally;
}

export interface BusinessOptions {
  /** Takes the rows that name no business. */
  business?: BusinessId | undefined;
  /** Old business, as text, to the one here. */
  map_business?: ReadonlyMap<string, BusinessId> | undefined;
  /** Where numbers without a country code belong; each business's own country otherwise. */
  country?: string | undefined;
}

/** Before the first job of any old installation. */
export const FIRST_CURSOR = Number.MIN_SAFE_INTEGER;

/** The adoptions of a source that have begun, by old business. */
export async function findAdoptions(db: Database, source: string): Promise<Map<string, BusinessId>> {
  const rows = await discover<{ business_id: BusinessId; old_business: string }>(
    db,
    'SELECT business_id, old_business FROM carillon.adoptions WHERE source = $1',
    [source],
  );
  return new Map(rows.map((row) => [row.old_business, row.business_id]));
}

/** The business that the options name for an old one; null: one is to be made. */
export function mappedBusiness(options: BusinessOptions, old_business: string): BusinessId | null {
  const mapped = options.map_business?.get(old_business);
  return mapped ?? (old_business === '' ? (options.business ?? null) : null);
}

/** Throws `adopt_business_missing` for a business that the options name and nobody has made. */
export async function refuseMissingBusinesses(db: Database, options: BusinessOptions): Promise<void> {
  const named = [...(options.map_business?.values() ?? []), ...(options.business ? [options.business] : [])];
  for (const business_id of new Set(named)) {
    const found = await inBusiness(db, business_id, (tx) =>
      tx.query('SELECT 1 FROM carillon.businesses WHERE business_id = $1', [business_id]),
    );
    if (found.length === 0)
      throw new AdoptError(
        'adopt_business_missing',
        `There is no business ${business_id}; create it first, or leave it out and one is made`,
      );
  }
}

/** Throws `adopt_account_missing` for a carrier account that is named and that no business has. */
export async function refuseMissingAccount(db: Database, carrier_account_id: number | undefined): Promise<void> {
  if (carrier_account_id === undefined) return;
  const found = await discover(db, 'SELECT business_id FROM carillon.carrier_accounts WHERE carrier_account_id = $1', [
    carrier_account_id,
  ]);
  if (found.length === 0)
    throw new AdoptError('adopt_account_missing', `There is no carrier account ${carrier_account_id}; create it first`);
}

/** Where a source's adoption into a business stands; nothing of it where it has not begun. Reads only. */
export async function readAdoption(
  db: Database,
  business_id: BusinessId,
  old_business: string,
  source: string,
  options: BusinessOptions,
): Promise<AdoptingBusiness> {
  return await inBusiness(db, business_id, async (tx) => {
    const begun = await findAdoption(tx, source, old_business);
    const country = parseCountry(options.country ?? (await readBusiness(tx)).country);
    return {
      old_business,
      business_id,
      country,
      made: false,
      adoption_id: null,
      jobs_cursor: FIRST_CURSOR,
      tally: emptyTally(),
      ...begun,
    };
  });
}

async function findAdoption(tx: Tx, source: string, old_business: string) {
  const [adoption] = await tx.query<Pick<AdoptingBusiness, 'adoption_id' | 'jobs_cursor' | 'made' | 'tally'>>(
    `SELECT adoption_id, jobs_cursor, made_business AS made, tally FROM carillon.adoptions
     WHERE business_id = $1 AND source = $2 AND old_business = $3`,
    [tx.business_id, source, old_business],
  );
  return adoption;
}

/**
 * Begins an old business's adoption, or goes on with it. A business that is made for it is made in the transaction that
 * notes so: broken off in between, no second one is made.
 */
export async function beginAdoption(
  db: Database,
  source: string,
  old_business: string,
  options: BusinessOptions & { actor: Actor; kept_id: number },
): Promise<AdoptingBusiness> {
  const mapped = mappedBusiness(options, old_business);
  const business_id =
    mapped ??
    (await keptBusiness(db, old_business, options.kept_id)) ??
    (await reserveId(db, 'businesses', 'business_id', BusinessId));
  await inBusiness(db, business_id, async (tx) => {
    if (mapped === null) makeBusiness(tx, old_business, options);
    tx.send(
      `INSERT INTO carillon.adoptions (business_id, source, old_business, made_business, tally)
       VALUES ($1, $2, $3, $4, $5::jsonb) ON CONFLICT ON CONSTRAINT unique_adoption DO NOTHING`,
      [business_id, source, old_business, mapped === null, JSON.stringify(emptyTally())],
    );
  });
  return await readAdoption(db, business_id, old_business, source, options);
}

/** The old id, where it is a number and nobody has it. Moving the sequence first sees to it that nobody gets it now. */
async function keptBusiness(db: Database, old_business: string, kept_id: number): Promise<BusinessId | null> {
  const wanted = BusinessId.safeParse(old_business);
  if (!wanted.success || wanted.data > kept_id) return null;
  await moveSequencePast(db, 'businesses', wanted.data);
  const there = await discover(db, 'SELECT business_id FROM carillon.businesses WHERE business_id = $1', [wanted.data]);
  return there.length === 0 ? wanted.data : null;
}

/** Without a key: who may come in is for a person to say. */
function makeBusiness(tx: Tx, old_business: string, options: BusinessOptions & { actor: Actor }): void {
  const name = old_business === '' ? 'Adopted business' : `Adopted business ${old_business}`.slice(0, 200);
  const country = parseCountry(options.country ?? 'IL');
  tx.send(
    'INSERT INTO carillon.businesses (business_id, name, country) VALUES ($1, $2, $3)',
    [tx.business_id, name, country],
    1,
  );
  const subject = { type: 'business', id: tx.business_id } as const;
  trail(tx, options.actor, { action: 'business.created', subject, after: { country } });
  installationTrail(tx, options.actor, { action: 'business.created', subject });
}
