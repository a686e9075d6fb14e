import type { BusinessId, ImportId, ListId } from '@carillon/contract';
import { parse } from 'csv-parse/sync';
import type { Database } from '../../src/db/database.ts';
import { rejectedLines } from '../../src/lead/rejected-lines.ts';
import type { Fixture } from './fixture.ts';

/** A file's bytes as they might arrive. */
export async function* csv(text: string | Buffer, piece_bytes = 1_000): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(text as string);
  for (let at = 0; at < bytes.length; at += piece_bytes) yield bytes.subarray(at, at + piece_bytes);
}

/** The E.164 of `0501000000 + n`, a number of a range that nobody has. */
export const number = (n: number): string => `+972${501_000_000 + n}`;

/** What counts as a list's members: read past every wall, by the list's own count. */
export async function membersOf(fixture: Fixture, business_id: BusinessId, list_id: ListId) {
  return await fixture.rows<{ phone: string; name: string | null; attributes: Record<string, string> }>(
    `SELECT l.phone, l.name, l.attributes
     FROM carillon.list_members m
     JOIN carillon.lists s USING (business_id, list_id)
     JOIN carillon.leads l USING (business_id, lead_id)
     WHERE business_id = $1 AND list_id = $2 AND m.position <= s.leads ORDER BY m.position`,
    [business_id, list_id],
  );
}

/** The download of an import's lines, parsed again, without its header. */
export async function linesOf(db: Database, business_id: BusinessId, import_id: number): Promise<string[][]> {
  const text = (await Array.fromAsync(rejectedLines(db, business_id, import_id as ImportId))).join('');
  return parse(text, { bom: true, from: 2 });
}
