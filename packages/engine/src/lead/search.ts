import type { BusinessId, Lead, LeadId } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import { getCountryCallingCode } from 'libphonenumber-js/min';
import { z } from 'zod';
import { readBusiness } from '../business/business.ts';
import { parseCountry } from '../business/country.ts';
import { isStorable } from '../business/storable.ts';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import type { Page } from '../run/read.ts';
import { readPhone } from './phone.ts';
import { type LeadRow, readLead, viewLead } from './view.ts';

export interface LeadQuery {
  /** The beginning of a name, a number or an external id. */
  search?: string | undefined;
  /** A whole number, in any form in which people write it. */
  phone?: string | undefined;
  /** A whole external id. */
  external_id?: string | undefined;
  /** The `next` of the page before. */
  after?: string | undefined;
  limit: number;
}

/** One lead, an erased one too. Throws `lead_not_found`. */
export async function getLead(db: Database, business_id: BusinessId, lead_id: LeadId): Promise<Lead> {
  return await inBusiness(db, business_id, async (tx) => viewLead(await readLead(tx, lead_id)));
}

/**
 * The business's leads, newest first, or those that fit what is looked for: by number, then by external id, then by
 * name, each in its order. A page is a few index scans that stop when it is full, however many leads there are; one
 * that meets leads which an earlier one showed is shorter. Throws `invalid_request` for a cursor that is none.
 */
export async function searchLeads(db: Database, business_id: BusinessId, query: LeadQuery): Promise<Page<Lead>> {
  const texts = [query.search, query.phone, query.external_id];
  // What can't be stored is nowhere.
  if (!texts.every((text) => text === undefined || isStorable(text))) return { items: [], next: null };
  return await inBusiness(db, business_id, async (tx) => {
    const scans = planScans(query, (await readBusiness(tx)).country);
    const items: Lead[] = [];
    let at = readCursor(query.after);
    for (let scan = scans[at.scan]; scan; scan = scans[at.scan]) {
      const missing = query.limit - items.length;
      const rows = await scan.read(tx, at, missing + 1);
      const shown = scans.slice(0, at.scan);
      const fresh = rows.slice(0, missing).filter((row) => !shown.some((earlier) => earlier.fits(row)));
      items.push(...fresh.map(viewLead));
      const last = rows[missing - 1];
      if (last) at = { scan: at.scan, key: last.key, lead_id: last.lead_id };
      if (rows.length > missing) return { items, next: writeCursor(at) };
      at = { scan: at.scan + 1, key: '', lead_id: 0 };
    }
    return { items, next: null };
  });
}

type FoundRow = LeadRow & { key: string };

/** A stretch of one index. */
interface Scan {
  read(tx: Tx, at: Cursor, limit: number): Promise<FoundRow[]>;
  /** Whether a lead that another scan met lies in this one too. */
  fits(lead: LeadRow): boolean;
}

function planScans(query: LeadQuery, country: string): Scan[] {
  if (query.phone !== undefined) {
    const read = readPhone(query.phone, parseCountry(country));
    return read.ok ? [byPhone(read.phone, read.phone)] : [];
  }
  if (query.external_id !== undefined) return [byText('external_id', query.external_id, NOTHING_BEHIND)];
  const text = query.search?.trim() ?? '';
  if (text === '') return [newestFirst];
  return [
    ...phonePrefixes(text, country).map((prefix) => byPhone(prefix, prefix + HIGHEST_PHONE)),
    byText('external_id', text, ANYTHING_BEHIND),
    byText('search_name', text, ANYTHING_BEHIND),
  ];
}

/** In the order of bytes all that begins with a text lies between it and it with this behind. */
const ANYTHING_BEHIND = '\u{10FFFF}';
/** Between a text and it with this behind there is only the text itself: no text has a NUL. */
const NOTHING_BEHIND = '\u0001';
/** Above all digits that may follow, in whatever order the database sorts: numbers are digits only. */
const HIGHEST_PHONE = '9'.repeat(16);

const LEAD = 'SELECT lead_id, phone, name, external_id, time_zone, attributes, erased_at';

const newestFirst: Scan = {
  async read(tx, at, limit) {
    return await tx.query<FoundRow>(
      `${LEAD}, '' AS key FROM carillon.leads
       WHERE business_id = $1 AND lead_id < $2 AND erased_at IS NULL ORDER BY lead_id DESC LIMIT $3`,
      [tx.business_id, at.lead_id || Number.MAX_SAFE_INTEGER, limit],
    );
  },
  fits: () => true,
};

function byPhone(from: string, to: string): Scan {
  return {
    async read(tx, at, limit) {
      return await tx.query<FoundRow>(
        `${LEAD}, phone AS key FROM carillon.leads
         WHERE business_id = $1 AND phone >= $2 AND phone <= $3 AND phone <> $4 ORDER BY phone LIMIT $5`,
        [tx.business_id, at.key === '' ? from : at.key, to, at.key, limit],
      );
    },
    fits: (lead) => lead.phone?.startsWith(from) === true,
  };
}

function byText(column: keyof typeof TEXT_SCANS, text: string, behind: string): Scan {
  return {
    async read(tx, at, limit) {
      const from = at.key === '' ? text : at.key;
      return await tx.query<FoundRow>(TEXT_SCANS[column], [tx.business_id, text, behind, from, at.lead_id, limit]);
    },
    fits: (lead) => column === 'external_id' && lead.external_id?.startsWith(text) === true,
  };
}

/**
 * In the order of bytes, which is that of their indexes. One lower bound only, where the page begins: with two the scan
 * would begin at the lower one. The small letters are made by the database, like the column's.
 */
const TEXT_SCANS = {
  external_id: `${LEAD}, external_id AS key FROM carillon.leads
    WHERE business_id = $1 AND external_id COLLATE "C" < $2 || $3
      AND (external_id COLLATE "C", lead_id) > ($4, $5::bigint)
    ORDER BY external_id COLLATE "C", lead_id LIMIT $6`,
  search_name: `${LEAD}, search_name AS key FROM carillon.leads
    WHERE business_id = $1 AND search_name COLLATE "C" < lower($2) || $3
      AND (search_name COLLATE "C", lead_id) > (lower($4), $5::bigint)
    ORDER BY search_name COLLATE "C", lead_id LIMIT $6`,
} as const;

/** The beginnings of E.164 numbers that somebody may mean: as it is dialled at home, or with the country code. */
function phonePrefixes(text: string, country: string): string[] {
  const written = text.replace(/[\s().\-\u2010-\u2015\u05BE]/g, '').replace(/^00/, '+');
  if (!/^\+?\d{1,15}$/.test(written)) return [];
  if (written.startsWith('+')) return [written];
  const home = `+${getCountryCallingCode(parseCountry(country))}`;
  return written.startsWith('0') ? [home + written.slice(1)] : [`+${written}`, home + written];
}

/** Where a page ended: in which scan, behind which key. */
interface Cursor {
  scan: number;
  key: string;
  lead_id: number;
}

const CursorText = z
  .tuple([z.int().min(0).max(9), z.string().max(1_000), z.int().min(0)])
  .transform(([scan, key, lead_id]): Cursor => ({ scan, key, lead_id }));

function readCursor(text: string | undefined): Cursor {
  if (text === undefined) return { scan: 0, key: '', lead_id: 0 };
  try {
    return CursorText.parse(JSON.parse(Buffer.from(text, 'base64url').toString()));
  } catch (error) {
    const problem = 'after is no cursor; give the next of the page before';
    throw new CarillonError('invalid_request', { problem }, { cause: error });
  }
}

function writeCursor({ scan, key, lead_id }: Cursor): string {
  return Buffer.from(JSON.stringify([scan, key, lead_id])).toString('base64url');
}
