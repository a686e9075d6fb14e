import type { Language } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import type { Tx } from '../db/database.ts';

export interface Business {
  name: string;
  /** ISO 3166-1 alpha-2: where numbers without a country code belong. */
  country: string;
  language: Language;
  /** IANA. */
  time_zone: string;
}

/** The business of this transaction. Throws `invalid_request` when there is none: an id that somebody typed. */
export async function readBusiness(tx: Tx): Promise<Business> {
  const [business] = await tx.query<Business>(
    'SELECT name, country, language, time_zone FROM carillon.businesses WHERE business_id = $1',
    [tx.business_id],
  );
  if (!business) throw new CarillonError('invalid_request', { problem: `there is no business ${tx.business_id}` });
  return business;
}
