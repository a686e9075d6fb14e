import type { Tx } from '../db/database.ts';
import type { ImportFence, JudgedLine } from './import-types.ts';
import type { NewLead } from './line.ts';
import type { LineReason } from './reasons.ts';

/** A lead that the business had before, and where it stands in the list; null: not in it. */
export interface KnownLead {
  lead_id: number;
  external_id: string | null;
  position: number | null;
}

/**
 * By one index look-up for each number and one for each lead, whatever the planner believes. It knows nothing yet of
 * tables that are being filled, and a plain join read the whole list for every single number: hence OFFSET 0, which
 * keeps it from joining in another way, and no list in the inner condition, so that only one index will do.
 */
export async function findKnown(
  tx: Tx,
  fence: ImportFence,
  batch: readonly JudgedLine[],
): Promise<Map<string, KnownLead>> {
  const phones = new Set(batch.flatMap((line) => ('lead' in line ? [line.lead.phone] : [])));
  if (phones.size === 0) return new Map();
  const rows = await tx.query<KnownLead & { phone: string }>(
    `SELECT new.phone, lead.lead_id, lead.external_id, member.position
     FROM unnest($3::text[]) AS new (phone)
     CROSS JOIN LATERAL (
       SELECT lead_id, external_id FROM carillon.leads WHERE business_id = $1 AND phone = new.phone OFFSET 0) lead
     LEFT JOIN LATERAL (
       SELECT list_id, position FROM carillon.list_members
       WHERE business_id = $1 AND lead_id = lead.lead_id OFFSET 0) member ON member.list_id = $2`,
    [tx.business_id, fence.list_id, [...phones]],
  );
  return new Map(rows.map((row) => [row.phone, row]));
}

export interface UpdatedLeads {
  /** By number. */
  lead_ids: Map<string, number>;
  /** How many of those that were there got a new value. */
  updated: number;
  /** What a person should know of a lead, by number. */
  remarks: Map<string, LineReason>;
}

/**
 * Makes leads, or updates those that are there: what the file gives wins, what it leaves empty stays. Attributes are
 * merged by key. A time zone that only the number tells fills a gap and replaces nothing. A consent replaces an earlier
 * one, as a whole. Rows with nothing new are not written.
 */
export async function updateLeads(
  tx: Tx,
  leads: readonly NewLead[],
  known: ReadonlyMap<string, KnownLead>,
): Promise<UpdatedLeads> {
  const lead_ids = new Map<string, number>();
  for (const { phone } of leads) {
    const lead = known.get(phone);
    if (lead) lead_ids.set(phone, lead.lead_id);
  }
  const remarks = await remarkIds(tx, leads, known);
  const updated = new Set<number>();
  for (const zones_given of [true, false]) {
    const group = leads.filter((lead) => (lead.time_zone !== null) === zones_given);
    for (const row of await upsert(tx, group, zones_given)) {
      lead_ids.set(row.phone, row.lead_id);
      if (row.updated) updated.add(row.lead_id);
    }
  }
  await findMissing(tx, leads, lead_ids);
  for (const lead_id of await recordConsents(tx, leads, lead_ids)) updated.add(lead_id);
  const were_there = new Set([...known.values()].map((lead) => lead.lead_id));
  return { lead_ids, updated: updated.intersection(were_there).size, remarks };
}

interface Written {
  phone: string;
  lead_id: number;
  updated: boolean;
}

/** In the order of their numbers, so that two imports lock leads that both have in the same order. */
async function upsert(tx: Tx, leads: readonly NewLead[], zones_given: boolean): Promise<Written[]> {
  if (leads.length === 0) return [];
  return await tx.query<Written>(
    `INSERT INTO carillon.leads AS l (business_id, phone, name, external_id, time_zone, attributes)
     SELECT $1, new.phone, new.name, new.external_id, new.time_zone, new.attributes::jsonb
     FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
       AS new (phone, name, external_id, time_zone, attributes)
     ORDER BY new.phone
     ON CONFLICT ON CONSTRAINT unique_lead_phone DO UPDATE SET
       name = coalesce(excluded.name, l.name),
       external_id = coalesce(excluded.external_id, l.external_id),
       time_zone = CASE WHEN $7 THEN excluded.time_zone ELSE coalesce(l.time_zone, excluded.time_zone) END,
       attributes = l.attributes || excluded.attributes,
       updated_at = now()
     WHERE excluded.name <> l.name OR l.name IS NULL AND excluded.name IS NOT NULL
        OR excluded.external_id <> l.external_id OR l.external_id IS NULL AND excluded.external_id IS NOT NULL
        OR $7 AND excluded.time_zone IS DISTINCT FROM l.time_zone
        OR NOT l.attributes @> excluded.attributes
     RETURNING l.phone, l.lead_id, l.updated_at <> l.created_at AS updated`,
    [
      tx.business_id,
      leads.map((lead) => lead.phone),
      leads.map((lead) => lead.name),
      leads.map((lead) => lead.external_id),
      leads.map((lead) => lead.time_zone ?? lead.phone_time_zone),
      leads.map((lead) => JSON.stringify(lead.attributes)),
      zones_given,
    ],
  );
}

/** Leads that somebody else made between the look and the writing, just as the file has them. */
async function findMissing(tx: Tx, leads: readonly NewLead[], lead_ids: Map<string, number>): Promise<void> {
  const missing = leads.filter(({ phone }) => !lead_ids.has(phone)).map(({ phone }) => phone);
  if (missing.length === 0) return;
  const rows = await tx.query<{ phone: string; lead_id: number }>(
    'SELECT phone, lead_id FROM carillon.leads WHERE business_id = $1 AND phone = ANY ($2)',
    [tx.business_id, missing],
  );
  for (const row of rows) lead_ids.set(row.phone, row.lead_id);
}

/**
 * Ids of the CRM that a person should look at. They need not differ: somebody may have two numbers. At most two leads
 * are read for each id: one of them is another.
 */
async function remarkIds(
  tx: Tx,
  leads: readonly NewLead[],
  known: ReadonlyMap<string, KnownLead>,
): Promise<Map<string, LineReason>> {
  const remarks = new Map<string, LineReason>();
  const ids = new Set(leads.flatMap((lead) => lead.external_id ?? []));
  if (ids.size === 0) return remarks;
  const rows = await tx.query<{ external_id: string; phone: string }>(
    `SELECT new.external_id, lead.phone FROM unnest($2::text[]) AS new (external_id)
     CROSS JOIN LATERAL (
       SELECT phone FROM carillon.leads
       WHERE business_id = $1 AND external_id COLLATE "C" = new.external_id AND external_id IS NOT NULL LIMIT 2) lead`,
    [tx.business_id, [...ids]],
  );
  const holders = new Map<string, Set<string>>();
  const hold = (external_id: string, phone: string) =>
    holders.set(external_id, (holders.get(external_id) ?? new Set()).add(phone));
  for (const row of rows) hold(row.external_id, row.phone);
  for (const { phone, external_id } of leads) {
    if (external_id === null) continue;
    const before = known.get(phone)?.external_id ?? null;
    const others = [...(holders.get(external_id) ?? [])].some((holder) => holder !== phone);
    if (others) remarks.set(phone, 'external_id_of_another');
    else if (before !== null && before !== external_id) remarks.set(phone, 'external_id_replaced');
    hold(external_id, phone);
  }
  return remarks;
}

/** Returns the leads whose consent is another now. */
async function recordConsents(
  tx: Tx,
  leads: readonly NewLead[],
  lead_ids: ReadonlyMap<string, number>,
): Promise<number[]> {
  const given = leads.flatMap(({ phone, consent }) => {
    const lead_id = lead_ids.get(phone);
    return consent && lead_id !== undefined ? [{ ...consent, lead_id }] : [];
  });
  if (given.length === 0) return [];
  const rows = await tx.query<{ lead_id: number }>(
    `INSERT INTO carillon.lead_consents AS c (business_id, lead_id, source, given_at, consent_text)
     SELECT $1, new.lead_id, new.source, new.given_at, new.consent_text
     FROM unnest($2::bigint[], $3::text[], $4::timestamptz[], $5::text[])
       AS new (lead_id, source, given_at, consent_text)
     ORDER BY new.lead_id
     ON CONFLICT (business_id, lead_id) DO UPDATE SET
       source = excluded.source, given_at = excluded.given_at, consent_text = excluded.consent_text,
       recorded_at = now()
     WHERE excluded.given_at > c.given_at OR c.given_at IS NULL AND (
       excluded.given_at IS NOT NULL
       OR (excluded.source, excluded.consent_text) IS DISTINCT FROM (c.source, c.consent_text))
     RETURNING c.lead_id`,
    [
      tx.business_id,
      given.map((consent) => consent.lead_id),
      given.map((consent) => consent.source),
      given.map((consent) => consent.given_at),
      given.map((consent) => consent.text),
    ],
  );
  return rows.map((row) => row.lead_id);
}
