import type { BusinessId, CreateLead, LeadId, UpdateLead } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import { readBusiness } from '../business/business.ts';
import { parseCountry } from '../business/country.ts';
import { isStorable } from '../business/storable.ts';
import { isTimeZone } from '../business/time-zone.ts';
import type { Database } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { readPhone } from './phone.ts';
import { timeZoneOfPhone } from './phone-zone.ts';
import { PHONE_REASONS } from './reasons.ts';

/**
 * Creates a lead, or finds the one that has this number already, which stays as it is. Without a time zone it gets its
 * number's, where that has only one; an extension becomes the attribute `extension`. Throws `phone_invalid` and
 * `invalid_request` (country, time zone, characters that can't be kept).
 */
export async function createLead(
  db: Database,
  business_id: BusinessId,
  input: CreateLead,
  actor: Actor,
): Promise<{ lead_id: LeadId; created: boolean }> {
  checkTexts(input);
  return await inBusiness(db, business_id, async (tx) => {
    const business = await readBusiness(tx);
    const { phone, extension } = readNumber(input.phone, input.country ?? business.country);
    const [made] = await tx.query<{ lead_id: LeadId }>(
      `INSERT INTO carillon.leads (business_id, phone, name, external_id, time_zone, attributes)
       VALUES ($1, $2, $3, $4, $5, $6)
       ON CONFLICT ON CONSTRAINT unique_lead_phone DO NOTHING RETURNING lead_id`,
      [
        business_id,
        phone,
        input.name || null,
        input.external_id || null,
        input.time_zone || timeZoneOfPhone(phone),
        JSON.stringify({ ...(extension ? { extension } : {}), ...input.attributes }),
      ],
    );
    if (made) {
      trail(tx, actor, { action: 'lead.created', subject: { type: 'lead', id: made.lead_id } });
      return { lead_id: made.lead_id, created: true };
    }
    const [there] = await tx.query<{ lead_id: LeadId }>(
      'SELECT lead_id FROM carillon.leads WHERE business_id = $1 AND phone = $2',
      [business_id, phone],
    );
    if (!there) throw new Error('a number conflicted with a lead that is not there');
    return { lead_id: there.lead_id, created: false };
  });
}

/** A number that somebody wrote, as E.164. Throws `phone_invalid`. */
export function toPhone(text: string, country: string): string {
  return readNumber(text, country).phone;
}

function readNumber(text: string, country: string): { phone: string; extension?: string } {
  const read = readPhone(text, parseCountry(country));
  if (!read.ok) throw new CarillonError('phone_invalid', { reason: PHONE_REASONS[read.reason].en });
  return read;
}

type Texts = Pick<UpdateLead, 'name' | 'external_id' | 'time_zone' | 'attributes'>;

/** Throws `invalid_request` for a time zone that is none and for what can't be kept. */
export function checkTexts(input: Texts): void {
  const texts = [input.name, input.external_id, ...Object.entries(input.attributes ?? {}).flat()];
  if (!texts.every((text) => text === undefined || text === null || isStorable(text)))
    throw new CarillonError('invalid_request', { problem: 'a text has a NUL or half a character in it' });
  if (input.time_zone && !isTimeZone(input.time_zone))
    throw new CarillonError('invalid_request', {
      problem: `"${input.time_zone}" is no time zone; give one such as Asia/Jerusalem`,
    });
}
