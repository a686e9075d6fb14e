import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { lockForImport } from './import-state.ts';
import type { ImportFence, ImportTotals, JudgedLine } from './import-types.ts';
import type { LineReason, NewLead } from './line.ts';

/**
 * Writes one batch of lines in one transaction: leads, members above the list's end, lines that made no member, and
 * the totals so far, which it returns. May be run again: it changes nothing but the database. Throws
 * `import_in_progress` when another import has taken over.
 */
export async function writeBatch(
  db: Database,
  fence: ImportFence,
  before: ImportTotals,
  batch: readonly JudgedLine[],
): Promise<ImportTotals> {
  return await inBusiness(db, fence.business_id, async (tx) => {
    await lockForImport(tx, fence);
    const members = await writeLeads(tx, fence, batch);
    const { added, notes } = sortLines(batch, members, fence);
    if (added.length > 0) addMembers(tx, fence, fence.members_before + before.accepted, added);
    if (notes.length > 0) addNotes(tx, fence, notes);
    const rejected = notes.filter((note) => note.verdict === 'rejected').length;
    const totals = {
      lines: before.lines + batch.length,
      accepted: before.accepted + added.length,
      duplicates: before.duplicates + notes.length - rejected,
      rejected: before.rejected + rejected,
    };
    tx.send(
      `UPDATE carillon.list_imports SET lines = $3, accepted = $4, duplicates = $5, rejected = $6, touched_at = now()
       WHERE business_id = $1 AND import_id = $2`,
      [fence.business_id, fence.import_id, totals.lines, totals.accepted, totals.duplicates, totals.rejected],
      1,
    );
    return totals;
  });
}

/** A number's lead, and where it stands in the list; null: not in it. */
interface Member {
  lead_id: number;
  position: number | null;
}

/** Makes or completes the batch's leads, and tells which of them the list has. */
async function writeLeads(tx: Tx, fence: ImportFence, batch: readonly JudgedLine[]): Promise<Map<string, Member>> {
  const leads = new Map<string, NewLead>();
  for (const line of batch) if ('lead' in line && !leads.has(line.lead.phone)) leads.set(line.lead.phone, line.lead);
  if (leads.size === 0) return new Map();
  // Two statements, sent together: one whose leads are there already returns nothing from the first. If it is chosen
  // as a deadlock's victim, this must say so and not that what came after it was refused: then it is run again.
  const [, rows] = await Promise.all([upsertLeads(tx, [...leads.values()]), findMembers(tx, fence, [...leads.keys()])]);
  return new Map(rows.map((row) => [row.phone, row]));
}

/**
 * By one index look-up for each number and one for each lead, whatever the planner believes. It knows nothing yet of
 * tables that are being filled, and a plain join read the whole list for every single number: hence OFFSET 0, which
 * keeps it from joining in another way, and no list in the inner condition, so that only one index will do.
 */
async function findMembers(tx: Tx, fence: ImportFence, phones: string[]): Promise<(Member & { phone: string })[]> {
  return await tx.query(
    `SELECT new.phone, lead.lead_id, member.position
     FROM unnest($3::text[]) AS new (phone)
     CROSS JOIN LATERAL (
       SELECT lead_id FROM carillon.leads WHERE business_id = $1 AND phone = new.phone OFFSET 0) lead
     LEFT JOIN LATERAL (
       SELECT list_id, position FROM carillon.list_members
       WHERE business_id = $1 AND lead_id = lead.lead_id OFFSET 0) member ON member.list_id = $2`,
    [tx.business_id, fence.list_id, phones],
  );
}

/**
 * In the order of their numbers, so that two imports lock leads that both have in the same order. What a lead has is
 * kept, what it lacks is filled in, and a row with nothing to fill is not written.
 */
async function upsertLeads(tx: Tx, leads: readonly NewLead[]): Promise<void> {
  await tx.query(
    `WITH written AS (
       INSERT INTO carillon.leads AS l (business_id, phone, name, external_id, time_zone, attributes)
       SELECT $1, new.phone, new.name, new.external_id, new.time_zone, new.attributes::jsonb
       FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
         AS new (phone, name, external_id, time_zone, attributes)
       ORDER BY new.phone
       ON CONFLICT ON CONSTRAINT unique_lead_phone DO UPDATE SET
         name = coalesce(l.name, excluded.name),
         external_id = coalesce(l.external_id, excluded.external_id),
         time_zone = coalesce(l.time_zone, excluded.time_zone),
         attributes = excluded.attributes || l.attributes,
         updated_at = now()
       WHERE l.name IS NULL AND excluded.name IS NOT NULL
          OR l.external_id IS NULL AND excluded.external_id IS NOT NULL
          OR l.time_zone IS NULL AND excluded.time_zone IS NOT NULL
          OR NOT l.attributes @> (excluded.attributes || l.attributes)
       RETURNING 1)
     SELECT count(*) FROM written`,
    [
      tx.business_id,
      leads.map((lead) => lead.phone),
      leads.map((lead) => lead.name),
      leads.map((lead) => lead.external_id),
      leads.map((lead) => lead.time_zone),
      leads.map((lead) => JSON.stringify(lead.attributes)),
    ],
  );
}

interface Note {
  line: number;
  verdict: 'rejected' | 'duplicate';
  reason: LineReason;
  original: string;
}

/** Which lines make new members, in the order of the file, and what is to be noted about the others. */
function sortLines(batch: readonly JudgedLine[], members: ReadonlyMap<string, Member>, fence: ImportFence) {
  const added = new Set<number>();
  const notes: Note[] = [];
  for (const line of batch) {
    const note = (verdict: Note['verdict'], reason: LineReason) =>
      notes.push({ line: line.line, verdict, reason, original: line.original });
    if ('reason' in line) {
      note('rejected', line.reason);
      continue;
    }
    const member = members.get(line.lead.phone);
    if (!member) throw new Error('a lead was written and is not there');
    if (member.position !== null && member.position <= fence.members_before) note('duplicate', 'already_in_list');
    else if (member.position !== null || added.has(member.lead_id)) note('duplicate', 'repeated_in_file');
    else added.add(member.lead_id);
  }
  return { added: [...added], notes };
}

function addMembers(tx: Tx, fence: ImportFence, last_position: number, lead_ids: readonly number[]): void {
  tx.send(
    `WITH added AS (
       INSERT INTO carillon.list_members (business_id, list_id, position, lead_id)
       SELECT $1, $2, $3 + new.n, new.lead_id FROM unnest($4::bigint[]) WITH ORDINALITY AS new (lead_id, n)
       RETURNING 1)
     SELECT 1 FROM added`,
    [tx.business_id, fence.list_id, last_position, lead_ids],
    lead_ids.length,
  );
}

function addNotes(tx: Tx, fence: ImportFence, notes: readonly Note[]): void {
  tx.send(
    `WITH added AS (
       INSERT INTO carillon.import_lines (business_id, import_id, line, verdict, reason, original)
       SELECT $1, $2, new.line, new.verdict, new.reason, new.original
       FROM unnest($3::integer[], $4::text[], $5::text[], $6::text[]) AS new (line, verdict, reason, original)
       RETURNING 1)
     SELECT 1 FROM added`,
    [
      tx.business_id,
      fence.import_id,
      notes.map((note) => note.line),
      notes.map((note) => note.verdict),
      notes.map((note) => note.reason),
      notes.map((note) => note.original),
    ],
    notes.length,
  );
}
