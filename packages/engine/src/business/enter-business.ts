import { type BusinessId, CarillonError, type EnterBusiness, type Entry } from '@carillon/contract';
import { type CountryCode, findPhoneNumbersInText } from 'libphonenumber-js/min';
import type { Actor } from '../actor.ts';
import { installationTrail } from '../audit/installation-trail.ts';
import { trail } from '../audit/trail.ts';
import { type Database, inBusiness } from '../db/database.ts';
import { insertKey } from './keys.ts';
import { isStorable } from './storable.ts';
import type { SystemPrincipal } from './system-keys.ts';

/**
 * A system administrator enters one business: a key of that business, which may do what an owner may, for a while. Who,
 * why and until when stand in the business's own trail and in the installation's, in the transaction that makes the
 * key. It dies with the administrator's key, and the business's owner may revoke it. Throws `business_not_found`,
 * `invalid_request`.
 */
export async function enterBusiness(
  db: Database,
  business_id: BusinessId,
  administrator: SystemPrincipal,
  { reason, minutes }: EnterBusiness,
  actor: Actor,
): Promise<Entry> {
  return await inBusiness(db, business_id, async (tx) => {
    // Its end is reckoned from the transaction's own time, by which the key is made.
    const [business] = await tx.query<{ country: CountryCode; now: Date }>(
      'SELECT country, now() FROM carillon.businesses WHERE business_id = $1',
      [business_id],
    );
    if (!business) throw new CarillonError('business_not_found');
    // What stands in a trail stays there for ever, and a person's number may not.
    if (!isStorable(reason) || findPhoneNumbersInText(reason, business.country).length > 0)
      throw new CarillonError('invalid_request', { problem: 'reason: no phone number may stand in it; name a ticket' });
    const made = await insertKey(
      tx,
      {
        role: 'system_admin',
        entered_by: administrator.key_id,
        label: 'entry of a system administrator',
        expires_at: new Date(business.now.getTime() + minutes * 60_000),
      },
      actor,
    );
    const { key, key_id, expires_at } = made;
    const entry = { subject: { type: 'business', id: business_id }, after: { reason, key_id, expires_at } } as const;
    trail(tx, actor, { action: 'business.entered', ...entry });
    installationTrail(tx, actor, { action: 'business.entered', ...entry });
    if (expires_at === null) throw new Error('an entry has no end');
    return { business_id, key_id, key, expires_at };
  });
}
