import type { BusinessId, Lead, LeadId, UpdateLead } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import { readBusiness } from '../business/business.ts';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness, violatedConstraint } from '../db/database.ts';
import { checkTexts, toPhone } from './create-lead.ts';
import { type LeadRow, lockLead, viewLead } from './view.ts';

/**
 * Changes a lead; what is left out stays, and null clears. Attributes are changed one by one. A new number is the one
 * called from now on; a call under way goes on to the number that it was made to. The trail names the fields that
 * changed, never what was or is in them.
 *
 * Throws `lead_not_found`, `lead_erased`, `phone_invalid`, `phone_taken` (a number belongs to one lead; the two are
 * not merged), `invalid_request`.
 */
export async function updateLead(
  db: Database,
  business_id: BusinessId,
  lead_id: LeadId,
  input: UpdateLead,
  actor: Actor,
): Promise<Lead> {
  checkTexts(input);
  const change = () => inBusiness(db, business_id, (tx) => changeLead(tx, lead_id, input, actor));
  try {
    return await change();
  } catch (error) {
    // Somebody else took the number between our look and our write. Looking again tells who.
    if (violatedConstraint(error) !== 'unique_lead_phone') throw error;
    return await change();
  }
}

async function changeLead(tx: Tx, lead_id: LeadId, input: UpdateLead, actor: Actor): Promise<Lead> {
  const business = await readBusiness(tx);
  const phone = input.phone === undefined ? undefined : toPhone(input.phone, input.country ?? business.country);
  const before = await lockLead(tx, lead_id);
  if (before.erased_at) throw new CarillonError('lead_erased');
  if (phone !== undefined) await refuseTaken(tx, lead_id, phone);
  const after = merge(before, { ...input, phone });
  const fields = FIELDS.filter((field) => JSON.stringify(before[field]) !== JSON.stringify(after[field]));
  if (fields.length === 0) return viewLead(before);
  tx.send(
    `UPDATE carillon.leads SET phone = $3, name = $4, external_id = $5, time_zone = $6, attributes = $7,
         updated_at = now()
       WHERE business_id = $1 AND lead_id = $2`,
    [tx.business_id, lead_id, after.phone, after.name, after.external_id, after.time_zone, after.attributes],
    1,
  );
  trail(tx, actor, { action: 'lead.updated', subject: { type: 'lead', id: lead_id }, after: { fields } });
  return viewLead(after);
}

const FIELDS = ['phone', 'name', 'external_id', 'time_zone', 'attributes'] as const;

async function refuseTaken(tx: Tx, lead_id: LeadId, phone: string): Promise<void> {
  const [other] = await tx.query<{ lead_id: number }>(
    'SELECT lead_id FROM carillon.leads WHERE business_id = $1 AND phone = $2 AND lead_id <> $3',
    [tx.business_id, phone, lead_id],
  );
  if (other) throw new CarillonError('phone_taken', { lead_id: other.lead_id });
}

function merge(before: LeadRow, input: UpdateLead): LeadRow {
  const kept = <T>(was: T | null, is: T | null | undefined) => (is === undefined ? was : is || null);
  const attributes = { ...before.attributes };
  for (const [key, value] of Object.entries(input.attributes ?? {}))
    if (value === null) delete attributes[key];
    else attributes[key] = value;
  return {
    ...before,
    phone: kept(before.phone, input.phone),
    name: kept(before.name, input.name),
    external_id: kept(before.external_id, input.external_id),
    time_zone: kept(before.time_zone, input.time_zone),
    attributes,
  };
}
