import { parsePhoneNumberWithError } from 'libphonenumber-js/min';
import type { Tx } from '../db/database.ts';
import { toAsciiDigits } from './phone.ts';
import type { LeadRow } from './view.ts';

const PAGE_LINES = 1_000;
/** A shorter id stands in lines of many others. */
const EXTERNAL_ID_MIN_CHARS = 3;

interface KeptLine {
  import_id: number;
  line: number;
  original: string;
}

/**
 * Empties the kept text of import lines that are about this person: those with the number, however it is written, and
 * those with the name or the external id as a whole value (a person of the same name loses the text of a rejected line
 * too, which is the better mistake). `since_s`: only of imports that showed a sign of life in these seconds. Returns how
 * many lines were emptied; their verdicts and reasons stay.
 */
export async function eraseImportLines(tx: Tx, lead: LeadRow, since_s: number | null): Promise<number> {
  const person = marksOf(lead);
  let erased = 0;
  for (let after = { import_id: 0, line: 0 }; ; ) {
    const page = await readPage(tx, person, since_s, after);
    const lines = page.filter((line) => isAbout(line.original, person));
    await emptyLines(tx, lines);
    erased += lines.length;
    const last = page.at(-1);
    if (!last || page.length < PAGE_LINES) return erased;
    after = last;
  }
}

interface Marks {
  /** Without country code or leading zero: part of every way to write it. */
  digits: string;
  name: string | null;
  external_id: string | null;
}

function marksOf({ phone, name, external_id }: LeadRow): Marks {
  return {
    digits: phone === null ? '' : parsePhoneNumberWithError(phone).nationalNumber,
    name: name?.trim().toLowerCase() || null,
    external_id: external_id && external_id.length >= EXTERNAL_ID_MIN_CHARS ? external_id.toLowerCase() : null,
  };
}

/** Lines that may be about somebody; what can be judged in the database is left out there. */
async function readPage(
  tx: Tx,
  { digits, name, external_id }: Marks,
  since_s: number | null,
  after: { import_id: number; line: number },
): Promise<KeptLine[]> {
  return await tx.query<KeptLine>(
    `SELECT import_id, line, original FROM carillon.import_lines
     WHERE business_id = $1 AND (import_id, line) > ($2::bigint, $3::int) AND original <> ''
       AND ($4::int IS NULL OR import_id IN (
         SELECT import_id FROM carillon.list_imports
         WHERE business_id = $1 AND touched_at > now() - $4 * interval '1 s'))
       AND (regexp_replace(translate(original, $5, $6), '[^0-9]', '', 'g') LIKE '%' || $7 || '%'
         OR position($8 IN lower(original)) > 0 OR position($9 IN lower(original)) > 0)
     ORDER BY import_id, line LIMIT $10`,
    [
      tx.business_id,
      after.import_id,
      after.line,
      since_s,
      OTHER_DIGITS,
      toAsciiDigits(OTHER_DIGITS),
      digits,
      name,
      external_id,
      PAGE_LINES,
    ],
  );
}

const OTHER_DIGITS = '٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹';
/** What stands between two values of a line, in every format. */
const BETWEEN_VALUES = /[,;:|\t\r\n"{}[\]]+/;

function isAbout(original: string, { digits, name, external_id }: Marks): boolean {
  if (digits !== '' && toAsciiDigits(original).replace(/\D/g, '').includes(digits)) return true;
  const values = original.split(BETWEEN_VALUES).map((value) => value.trim().toLowerCase());
  return values.some((value) => value !== '' && (value === name || value === external_id));
}

async function emptyLines(tx: Tx, lines: readonly KeptLine[]): Promise<void> {
  for (const [import_id, of] of Map.groupBy(lines, (line) => line.import_id))
    await tx.query(
      `UPDATE carillon.import_lines SET original = '' WHERE business_id = $1 AND import_id = $2 AND line = ANY ($3)`,
      [tx.business_id, import_id, of.map((line) => line.line)],
    );
}
