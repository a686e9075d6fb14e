import type { BusinessId, ImportId, Language } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { csvSafeLine } from './csv-safe.ts';
import { LINE_REASONS, type LineReason } from './reasons.ts';

const PAGE_LINES = 1_000;
/** Without it Excel takes UTF-8 for the machine's old encoding, and Hebrew is lost. */
const BOM = '\uFEFF';

interface NotedLine {
  line: number;
  verdict: 'accepted' | 'rejected' | 'duplicate';
  reason: LineReason;
  original: string;
}

/**
 * The lines of an import that made no new member, and the accepted ones with something to look at, in the file's order,
 * as the lines of a CSV file that is safe to open in a spreadsheet: line, verdict (rejected, duplicate, accepted), reason
 * (code), explanation in `language`, original. Read in pages, each in a transaction of its own, so that a slow reader
 * holds nothing.
 *
 * Throws `import_not_found` before the first line.
 */
export async function* rejectedLines(
  db: Database,
  business_id: BusinessId,
  import_id: ImportId,
  language: Language = 'en',
): AsyncGenerator<string> {
  await inBusiness(db, business_id, (tx) => requireImport(tx, import_id));
  yield BOM + csvSafeLine(['line', 'verdict', 'reason', 'explanation', 'original']);
  for (let after = 0; ; ) {
    const page = await inBusiness(db, business_id, (tx) => readPage(tx, import_id, after));
    for (const row of page)
      yield csvSafeLine([row.line, row.verdict, row.reason, LINE_REASONS[row.reason][language], row.original]);
    const last = page.at(-1);
    if (!last || page.length < PAGE_LINES) return;
    after = last.line;
  }
}

async function requireImport(tx: Tx, import_id: ImportId): Promise<void> {
  const found = await tx.query('SELECT 1 FROM carillon.list_imports WHERE business_id = $1 AND import_id = $2', [
    tx.business_id,
    import_id,
  ]);
  if (found.length === 0) throw new CarillonError('import_not_found');
}

async function readPage(tx: Tx, import_id: ImportId, after: number): Promise<NotedLine[]> {
  return await tx.query<NotedLine>(
    `SELECT line, verdict, reason, original FROM carillon.import_lines
     WHERE business_id = $1 AND import_id = $2 AND line > $3 ORDER BY line LIMIT $4`,
    [tx.business_id, import_id, after, PAGE_LINES],
  );
}
