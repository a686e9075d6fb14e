import { pipeline } from 'node:stream/promises';
import { CarillonError } from '@carillon/contract';
import { CsvError, parse } from 'csv-parse';
import { parse as parseSync } from 'csv-parse/sync';
import type { ImportLimits } from '../limits.ts';
import type { FileRow } from './row.ts';
import { checkedText } from './utf8.ts';

interface RawRecord {
  record: string[];
  raw: string;
}

const LINE_ENDS = ['\r\n', '\n', '\r'];

/**
 * Reads UTF-8 CSV as it arrives, in bounded memory: no more is taken from `source` than is asked for, but for a few
 * chunks. Any line ends, mixed too; a BOM or none. A quote inside an unquoted value is a character like any
 * other (בע"מ, ד"ר). Empty lines are left out.
 *
 * Throws `import_not_text`, `import_broken` (a line out of bounds, a quote that is never closed), and whatever the
 * source throws.
 */
export async function* readCsv(
  source: AsyncIterable<Buffer>,
  separator: string,
  limits: ImportLimits,
): AsyncGenerator<FileRow> {
  // The line on which the last record ended. Counted here: the parser counts a line end inside quotes twice.
  let ended = 0;
  const parser = parse({
    bom: true,
    delimiter: separator,
    relax_column_count: true,
    relax_quotes: true,
    skip_empty_lines: true,
    record_delimiter: LINE_ENDS,
    max_record_size: limits.import_line_bytes,
    raw: true,
    // Told while parsing and not while reading: when the parser fails, what it had in store is gone.
    on_record: (record: unknown) => {
      const line = located(record as RawRecord, ended, separator);
      ended = line.line + countLineEnds(line.raw);
      // The parser's types know of no records but arrays.
      return line as never;
    },
  });
  const feeding = pipeline(checkedText(source, limits.import_line_bytes), parser);
  // It fails with what the loop below fails with.
  feeding.catch(() => {});
  try {
    for await (const line of parser as AsyncIterable<FileRow>) yield line;
    await feeding;
  } catch (error) {
    throw error instanceof CsvError ? explain(error, ended, limits) : error;
  }
}

function located({ record, raw }: RawRecord, ended: number, separator: string): FileRow {
  const blank = countBlankLines(raw);
  const line = { line: ended + 1 + blank, fields: record, raw: raw.slice(blank).replace(/[\r\n]$/, '') };
  if (swallowedLines(line, separator)) throw notClosed(line.line);
  return line;
}

/** The parser's raw text begins with one character for each blank line that it skipped before the record. */
function countBlankLines(raw: string): number {
  return raw.length - raw.replace(/^[\r\n]+/, '').length;
}

function countLineEnds(raw: string): number {
  return raw.match(/\r\n|\n|\r/g)?.length ?? 0;
}

/**
 * Whether a quote was opened, never closed, and ended by the opening quote of some later line: all lines in between
 * would be one value, and lost without a word. It shows as a value of several lines that still has its quote.
 */
function swallowedLines({ fields, raw }: FileRow, separator: string): boolean {
  if (!fields.some((value) => value.startsWith('"') && /[\r\n]/.test(value))) return false;
  try {
    parseSync(raw, { delimiter: separator, relax_column_count: true, record_delimiter: LINE_ENDS });
    return false;
  } catch {
    return true;
  }
}

function notClosed(line: number): CarillonError {
  return new CarillonError('import_broken', { line, problem: 'a quote (") is opened there and not closed properly' });
}

function explain(error: CsvError, ended: number, limits: ImportLimits): CarillonError {
  const raw: unknown = error.raw;
  const line = ended + 1 + countBlankLines(typeof raw === 'string' ? raw : '');
  if (error.code !== 'CSV_MAX_RECORD_SIZE') return notClosed(line);
  const problem = `it is longer than ${limits.import_line_bytes} bytes; is a quote (") opened there and not closed?`;
  return new CarillonError('import_broken', { line, problem });
}
