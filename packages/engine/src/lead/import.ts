import { createHash, type Hash } from 'node:crypto';
import type { BusinessId, ImportReport, ListId } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import { parseCountry } from '../business/country.ts';
import { type Clock, systemClock } from '../clock.ts';
import { type Database, sqlState } from '../db/database.ts';
import { type Columns, MAPPED_FIELDS } from './columns.ts';
import { withFile } from './file/open.ts';
import type { FileRow, FileRows } from './file/row.ts';
import { describeFile, looksLikeHeader, placeRows } from './header.ts';
import { writeBatch } from './import-batch.ts';
import { beginImport, failImport, finishImport, removeLeftovers, touchImport } from './import-state.ts';
import {
  type ImportFence,
  type ImportOptions,
  type ImportStanding,
  type JudgedLine,
  NO_TOTALS,
} from './import-types.ts';
import { defaultImportLimits, type ImportLimits } from './limits.ts';
import { type LineContext, readLine } from './line.ts';
import { createMarks } from './marks.ts';
import { original } from './text.ts';

/**
 * Imports a file into a list, as it arrives and in bounded memory: CSV in its dialects, NDJSON or XLSX, recognised by
 * what is in it. Every line that is not blank is counted once: accepted (it made a new member of the list), duplicate
 * (of an earlier line, or of a member), or rejected. The last two are kept with line number, reason and text, and so are
 * accepted ones that a person should look at (`rejectedLines`).
 *
 * All or nothing for the list: its members count only when the last line is in. A file that is broken, a source that
 * throws or a process that is killed leaves the list as it was, and the file can be sent again, also under the same
 * idempotency key. (Leads that came in before the break stay with the business, in no list.) A lead that the business
 * has already is updated: what the file gives wins, what it leaves empty stays.
 *
 * `source` is left as it is when the import can't begin; else it is read to its end, or closed.
 *
 * Throws `list_not_found`, `import_in_progress` (another import into the list is alive, or has taken over from this
 * one), `idempotency_conflict`, `database_full`, the errors of a file (`import_…`), `invalid_request` (country, mapping),
 * and whatever `source` throws.
 */
export async function importLeads(
  db: Database,
  business_id: BusinessId,
  list_id: ListId,
  source: AsyncIterable<Buffer>,
  options: ImportOptions,
): Promise<ImportReport> {
  const limits = { ...defaultImportLimits, ...options.limits };
  const { actor, idempotency_key = null } = options;
  if (options.country !== undefined) parseCountry(options.country);
  const begun = await beginImport(db, business_id, list_id, { idempotency_key, actor, limits });
  const country = parseCountry(options.country ?? begun.business.country);
  const hash = createHash('sha256').update(JSON.stringify([list_id, country, ...choices(options)]));
  if (begun.kind === 'done') return await answerAgain(begun, source, hash);
  const { fence } = begun;
  const clock = options.clock ?? systemClock;
  const context = {
    country,
    time_zone: begun.business.time_zone,
    now: new Date(clock.wallMs()).toISOString(),
    limits,
  };
  const standing = { totals: NO_TOTALS, bytes_read: 0, file: null };
  try {
    await removeLeftovers(db, fence, limits);
    await writeFile({ db, fence, options, context, clock, standing }, source, hash);
    return await finishImport(db, fence, standing, hash.digest('hex'), actor);
  } catch (error) {
    const told = sqlState(error) === DISK_FULL ? new CarillonError('database_full', {}, { cause: error }) : error;
    // Should this fail as well, the import is seen to be dead once it is stale.
    await failImport(db, fence, told, actor).catch(() => {});
    throw told;
  }
}

const DISK_FULL = '53100';

/** What was asked for beside the file. */
function choices({ mapping, encoding, sheet }: ImportOptions): (string | null)[] {
  return [...MAPPED_FIELDS.map((field) => mapping?.[field] ?? null), encoding ?? null, sheet ?? null];
}

/** The import under this key is done: the report again, if the request is the same to the last byte. */
async function answerAgain(
  done: { report: ImportReport; request_hash: string | null },
  source: AsyncIterable<Buffer>,
  hash: Hash,
): Promise<ImportReport> {
  for await (const chunk of source) hash.update(chunk);
  if (hash.digest('hex') !== done.request_hash) throw new CarillonError('idempotency_conflict');
  return done.report;
}

interface Work {
  db: Database;
  fence: ImportFence;
  options: ImportOptions;
  context: LineContext;
  clock: Clock;
  /** Changed as the work goes on. */
  standing: ImportStanding;
}

async function writeFile(work: Work, source: AsyncIterable<Buffer>, hash: Hash): Promise<void> {
  const { context, options, clock, standing } = work;
  const { limits, country } = context;
  const mapping = options.mapping ?? {};
  async function* counted(): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      hash.update(chunk);
      standing.bytes_read += chunk.length;
      yield chunk;
    }
  }
  let alive_ms = clock.monotonicMs();
  const alive = async () => {
    if (clock.monotonicMs() - alive_ms < limits.import_commit_every_ms) return;
    alive_ms = clock.monotonicMs();
    await touchImport(work.db, work.fence, standing.bytes_read);
  };
  const isHeader = (fields: string[]) => looksLikeHeader(fields, { mapping, country, limits });
  const { encoding, sheet } = options;
  await withFile(counted(), { encoding, sheet, limits, isHeader, alive }, (file) => writeLines(work, file));
}

async function writeLines(work: Work, file: FileRows): Promise<void> {
  const { db, fence, options, context, clock, standing } = work;
  const { limits } = context;
  const named = createMarks(fence.members_before);
  let describe = () => standing.file;
  let batch: JudgedLine[] = [];
  let batch_chars = 0;
  let written_ms = clock.monotonicMs();
  const write = async () => {
    standing.file = describe();
    standing.totals = await writeBatch(db, fence, standing, batch, named);
    batch = [];
    batch_chars = 0;
    written_ms = clock.monotonicMs();
    options.onProgress?.(standing.totals, file.progress());
  };
  const onColumns = (columns: Columns, header: readonly string[] | null) => {
    describe = () => describeFile(file, columns, header);
  };
  for await (const { row, columns } of placeRows(file.rows, {
    ...context,
    mapping: options.mapping ?? {},
    onColumns,
  })) {
    batch.push({
      line: row.line,
      original: original(row.raw, limits.import_original_chars),
      ...readLine(row, columns, context),
    });
    batch_chars += row.raw.length;
    if (standing.totals.lines + batch.length > limits.import_file_lines) throw tooMany(row, limits);
    const full = batch.length >= limits.import_batch_lines || batch_chars >= limits.import_batch_bytes;
    if (full || clock.monotonicMs() - written_ms >= limits.import_commit_every_ms) await write();
  }
  if (batch.length > 0) await write();
  if (standing.totals.lines === 0) throw new CarillonError('import_no_lines');
}

function tooMany(row: FileRow, limits: ImportLimits): CarillonError {
  const problem = `the file has more than ${limits.import_file_lines} lines; divide it`;
  return new CarillonError('import_broken', { line: row.line, problem });
}
