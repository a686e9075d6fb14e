import { BusinessId, CarillonError, type KeyId, type Language } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { installationTrail } from '../audit/installation-trail.ts';
import { trail } from '../audit/trail.ts';
import { parseCountry } from './country.ts';
import type { Database } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { reserveId } from '../db/reserve-id.ts';
import { insertKey } from './keys.ts';
import { isStorable } from './storable.ts';
import { isTimeZone } from './time-zone.ts';

export interface NewBusiness {
  /** 1 to 200 characters. */
  name: string;
  /** ISO 3166-1 alpha-2; IL when left out. */
  country?: string | undefined;
  /** he when left out. */
  language?: Language | undefined;
  /** IANA; Asia/Jerusalem when left out. */
  time_zone?: string | undefined;
}

/**
 * Creates a business and an owner's API key, both or neither. The key is told here once; only its hash is kept. Throws
 * `invalid_request`.
 */
export async function createBusiness(
  db: Database,
  input: NewBusiness,
  actor: Actor,
): Promise<{ business_id: BusinessId; key_id: KeyId; key: string }> {
  const business = checked(input);
  // The id comes first: the wall stands on it, and the row can't be written before the wall stands.
  const business_id = await reserveId(db, 'businesses', 'business_id', BusinessId);
  return await inBusiness(db, business_id, async (tx) => {
    tx.send(
      `INSERT INTO carillon.businesses (business_id, name, country, language, time_zone) VALUES ($1, $2, $3, $4, $5)`,
      [business_id, business.name, business.country, business.language, business.time_zone],
      1,
    );
    const { name: _, ...after } = business;
    trail(tx, actor, { action: 'business.created', subject: { type: 'business', id: business_id }, after });
    const { key, key_id } = await insertKey(tx, { role: 'owner', label: 'first key' }, actor);
    installationTrail(tx, actor, { action: 'business.created', subject: { type: 'business', id: business_id } });
    return { business_id, key_id, key };
  });
}

function checked(input: NewBusiness) {
  const name = input.name.trim();
  const time_zone = input.time_zone ?? 'Asia/Jerusalem';
  if (name.length < 1 || name.length > 200 || !isStorable(name))
    throw new CarillonError('invalid_request', { problem: 'the name of a business has 1 to 200 characters' });
  if (!isTimeZone(time_zone))
    throw new CarillonError('invalid_request', {
      problem: `"${time_zone}" is no time zone; give one such as Asia/Jerusalem`,
    });
  return { name, country: parseCountry(input.country ?? 'IL'), language: input.language ?? 'he', time_zone };
}
