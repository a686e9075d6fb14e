import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { lockForImport, tellStanding } from './import-state.ts';
import type { ImportFence, ImportStanding, ImportTotals, JudgedLine } from './import-types.ts';
import type { NewLead } from './line.ts';
import type { Marks } from './marks.ts';
import type { LineReason } from './reasons.ts';
import { findKnown, type KnownLead, type UpdatedLeads, updateLeads } from './update-leads.ts';

/**
 * Writes one batch of lines in one transaction: leads, members above the list's end, notes on lines, and the totals so
 * far, which it returns. Of several lines with one number, the first of the file counts, in whichever batch it was.
 * `named` has the positions of the members that the list had before and that a line has named; it is added to.
 *
 * May be run again: it changes nothing but the database, and `named` once that is certain. Throws `import_in_progress`
 * when another import has taken over.
 */
export async function writeBatch(
  db: Database,
  fence: ImportFence,
  before: ImportStanding,
  batch: readonly JudgedLine[],
  named: Marks,
): Promise<ImportTotals> {
  const { totals, positions } = await inBusiness(db, fence.business_id, async (tx) => {
    await lockForImport(tx, fence);
    const known = await findKnown(tx, fence, batch);
    const { firsts, notes } = sortLines(batch, known, fence, named);
    const leads = await updateLeads(
      tx,
      firsts.map((line) => line.lead),
      known,
    );
    const added: number[] = [];
    const met: number[] = [];
    for (const line of firsts) {
      const position = known.get(line.lead.phone)?.position ?? null;
      if (position === null) added.push(idOf(leads, line.lead));
      else met.push(position);
      const remark = leads.remarks.get(line.lead.phone);
      if (position !== null) notes.push(note(line, 'duplicate', remark ?? 'already_in_list'));
      else if (remark) notes.push(note(line, 'accepted', remark));
    }
    if (added.length > 0) addMembers(tx, fence, fence.members_before + before.totals.accepted, added);
    if (notes.length > 0) addNotes(tx, fence, notes);
    const after = addUp(before.totals, batch.length, added.length, leads.updated, notes);
    tellStanding(tx, fence, { ...before, totals: after });
    return { totals: after, positions: met };
  });
  for (const position of positions) named.add(position);
  return totals;
}

function idOf(leads: UpdatedLeads, lead: NewLead): number {
  const lead_id = leads.lead_ids.get(lead.phone);
  if (lead_id === undefined) throw new Error('a lead was written and is not there');
  return lead_id;
}

interface Note {
  line: number;
  verdict: 'accepted' | 'rejected' | 'duplicate';
  reason: LineReason;
  original: string;
}

function note(line: JudgedLine, verdict: Note['verdict'], reason: LineReason): Note {
  return { line: line.line, verdict, reason, original: line.original };
}

type LeadLine = Extract<JudgedLine, { lead: NewLead }>;

/** The lines that are the first of the file with their number, and notes on the others, in the order of the file. */
function sortLines(
  batch: readonly JudgedLine[],
  known: ReadonlyMap<string, KnownLead>,
  fence: ImportFence,
  named: Marks,
): { firsts: LeadLine[]; notes: Note[] } {
  const firsts = new Map<string, LeadLine>();
  const notes: Note[] = [];
  for (const line of batch) {
    if ('reason' in line) {
      notes.push(note(line, 'rejected', line.reason));
      continue;
    }
    const position = known.get(line.lead.phone)?.position ?? null;
    const old = position !== null && position <= fence.members_before;
    const repeated = firsts.has(line.lead.phone) || (position !== null && (!old || named.has(position)));
    if (repeated) notes.push(note(line, 'duplicate', old ? 'already_in_list' : 'repeated_in_file'));
    else firsts.set(line.lead.phone, line);
  }
  return { firsts: [...firsts.values()], notes };
}

function addUp(
  before: ImportTotals,
  lines: number,
  accepted: number,
  updated: number,
  notes: readonly Note[],
): ImportTotals {
  const reasons = { ...before.reasons };
  for (const { reason } of notes) reasons[reason] = (reasons[reason] ?? 0) + 1;
  const of = (verdict: Note['verdict']) => notes.filter((one) => one.verdict === verdict).length;
  return {
    lines: before.lines + lines,
    accepted: before.accepted + accepted,
    duplicates: before.duplicates + of('duplicate'),
    rejected: before.rejected + of('rejected'),
    updated: before.updated + updated,
    reasons,
  };
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
      notes.map((one) => one.line),
      notes.map((one) => one.verdict),
      notes.map((one) => one.reason),
      notes.map((one) => one.original),
    ],
    notes.length,
  );
}
