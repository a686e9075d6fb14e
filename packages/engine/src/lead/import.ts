import { createHash, type Hash } from 'node:crypto';
import type { BusinessId, ImportReport, ListId } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import { parseCountry } from '../business/country.ts';
import { systemClock } from '../clock.ts';
import type { Database } from '../db/database.ts';
import { type Columns, type Mapping, recogniseColumns } from './columns.ts';
import { type CsvLine, readCsv } from './csv.ts';
import { writeBatch } from './import-batch.ts';
import { beginImport, failImport, finishImport, removeLeftovers } from './import-state.ts';
import type { ImportFence, ImportOptions, ImportTotals, JudgedLine } from './import-types.ts';
import { defaultImportLimits, type ImportLimits } from './limits.ts';
import { readLine } from './line.ts';
import { cut } from './text.ts';

/**
 * Imports a CSV file into a list, as it arrives and in bounded memory. Every line of the file that is not blank is
 * counted once: accepted (it made a new member of the list), duplicate (of an earlier line, or of a member), or
 * rejected. The last two are kept with line number, reason and text (`rejectedLines`).
 *
 * All or nothing for the list: its members count only when the last line is in. A file that is broken, a source that
 * throws or a process that is killed leaves the list as it was, and the file can be sent again, also under the same
 * idempotency key. (Leads that came in before the break stay with the business, in no list.) A lead that the business
 * has already is used: what it lacks is filled in, what it has is kept.
 *
 * `source` is left as it is when the import can't begin; else it is read to its end, or closed.
 *
 * Throws `list_not_found`, `import_in_progress` (another import into the list is alive, or has taken over from this
 * one), `idempotency_conflict`, `import_file_empty`, `import_not_text`, `import_no_phone_column`, `import_broken`,
 * `invalid_request` (country, mapping), and whatever `source` throws.
 */
export async function importLeads(
  db: Database,
  business_id: BusinessId,
  list_id: ListId,
  source: AsyncIterable<Buffer>,
  options: ImportOptions = {},
): Promise<ImportReport> {
  const limits = { ...defaultImportLimits, ...options.limits };
  if (options.country !== undefined) parseCountry(options.country);
  const begun = await beginImport(db, business_id, list_id, options.idempotency_key ?? null, limits);
  const country = parseCountry(options.country ?? begun.country);
  const hash = createHash('sha256').update(JSON.stringify([list_id, country, mappingText(options.mapping)]));
  if (begun.kind === 'done') return await answerAgain(begun, source, hash);
  const { fence } = begun;
  try {
    await removeLeftovers(db, fence, limits);
    const totals = await writeLines(db, fence, hashed(source, hash), { ...options, limits, country });
    return await finishImport(db, fence, totals, hash.digest('hex'));
  } catch (error) {
    // Should this fail as well, the import is seen to be dead once it is stale.
    await failImport(db, fence, error).catch(() => {});
    throw error;
  }
}

function mappingText(mapping: Mapping = {}) {
  return [mapping.phone ?? null, mapping.name ?? null, mapping.external_id ?? null, mapping.time_zone ?? null];
}

async function* hashed(source: AsyncIterable<Buffer>, hash: Hash): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    hash.update(chunk);
    yield chunk;
  }
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

interface WriteOptions extends ImportOptions {
  limits: ImportLimits;
  country: ReturnType<typeof parseCountry>;
}

async function writeLines(
  db: Database,
  fence: ImportFence,
  source: AsyncIterable<Buffer>,
  options: WriteOptions,
): Promise<ImportTotals> {
  const { limits, country } = options;
  const clock = options.clock ?? systemClock;
  let columns: Columns | undefined;
  let totals: ImportTotals = { lines: 0, accepted: 0, duplicates: 0, rejected: 0 };
  let batch: JudgedLine[] = [];
  let batch_chars = 0;
  let written_ms = clock.monotonicMs();
  const write = async () => {
    totals = await writeBatch(db, fence, totals, batch);
    batch = [];
    batch_chars = 0;
    written_ms = clock.monotonicMs();
    options.onProgress?.(totals);
  };
  for await (const line of readCsv(source, limits)) {
    if (line.fields.every((value) => value.trim() === '')) continue;
    if (!columns) {
      columns = recogniseColumns(line.fields, options.mapping ?? {}, limits);
      continue;
    }
    batch.push({
      line: line.line,
      original: cut(line.raw, limits.import_original_chars),
      ...readLine(line.fields, columns, country, limits),
    });
    batch_chars += line.raw.length;
    if (totals.lines + batch.length > limits.import_file_lines) throw tooMany(line, limits);
    const full = batch.length >= limits.import_batch_lines || batch_chars >= limits.import_batch_bytes;
    if (full || clock.monotonicMs() - written_ms >= limits.import_commit_every_ms) await write();
  }
  if (!columns) throw new CarillonError('import_file_empty');
  if (batch.length > 0) await write();
  return totals;
}

function tooMany(line: CsvLine, limits: ImportLimits): CarillonError {
  const problem = `the file has more than ${limits.import_file_lines} lines; divide it`;
  return new CarillonError('import_broken', { line: line.line, problem });
}
