import { CarillonError } from '@carillon/contract';
import type { ImportLimits } from '../limits.ts';
import { csvLine } from './raw.ts';
import type { FileRow } from './row.ts';
import { checkedText } from './utf8.ts';

/** So many records are read before the first is given: their keys together are what a header is elsewhere. */
const RECORDS_AHEAD = 100;

/**
 * Reads JSON objects, one on each line, in UTF-8. An object under the key `attributes` is spread; other objects and
 * lists are kept as JSON, lists of plain values as these with commas between them. A line that is no object has a
 * `reason`; a file that has no object among its first hundred lines is broken.
 *
 * Throws `import_broken`, `import_not_text`.
 */
export async function* readNdjson(source: AsyncIterable<Buffer>, limits: ImportLimits): AsyncGenerator<FileRow> {
  const columns = new Map<string, number>();
  let keys: readonly string[] = [];
  let ahead: FileRow[] | null = [];
  for await (const { line, text } of readLines(source, limits)) {
    const row = readRecord(line, text, columns);
    if (columns.size > limits.import_columns)
      throw broken(line, `it brings the file to more than ${limits.import_columns} different keys`);
    if (keys.length !== columns.size) keys = [...columns.keys()];
    row.keys = keys;
    if (!ahead) yield row;
    else if (ahead.push(row) >= RECORDS_AHEAD) {
      yield* together(ahead, keys);
      ahead = null;
    }
  }
  if (ahead && ahead.length > 0) yield* together(ahead, keys);
}

function* together(rows: FileRow[], keys: readonly string[]): Generator<FileRow> {
  const [first] = rows;
  if (first && rows.every((row) => row.reason !== undefined))
    throw broken(first.line, 'it is no JSON object, such as {"phone": "050-1234567", "name": "Dana"}');
  for (const row of rows) yield { ...row, keys };
}

function broken(line: number, problem: string): CarillonError {
  return new CarillonError('import_broken', { line, problem });
}

function readRecord(line: number, raw: string, columns: Map<string, number>): FileRow {
  const values = parseObject(raw);
  if (!values) return { line, raw, fields: [], reason: 'no_json_object' };
  const fields: string[] = [];
  for (const [key, value] of values) {
    const index = columns.get(key) ?? columns.size;
    columns.set(key, index);
    fields[index] = value;
  }
  return { line, raw, fields: Array.from(fields, (value) => value ?? '') };
}

function parseObject(raw: string): Map<string, string> | null {
  try {
    const parsed: unknown = JSON.parse(raw);
    if (!isObject(parsed)) return null;
    const { attributes, ...rest } = parsed;
    const entries = isObject(attributes)
      ? [...Object.entries(attributes), ...Object.entries(rest)]
      : Object.entries(parsed);
    return new Map(entries.map(([key, value]) => [key, textOf(value)]));
  } catch {
    return null;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function textOf(value: unknown): string {
  if (value === null || value === undefined) return '';
  if (typeof value === 'string') return value;
  // In full: a number of a thousand billion is a phone number here.
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value.toFixed(0);
  if (Array.isArray(value) && value.every((item) => typeof item !== 'object')) return csvLine(value.map(textOf));
  return JSON.stringify(value);
}

async function* readLines(
  source: AsyncIterable<Buffer>,
  limits: ImportLimits,
): AsyncGenerator<{ line: number; text: string }> {
  const decoder = new TextDecoder();
  let line = 1;
  let rest = '';
  for await (const chunk of checkedText(source, limits.import_line_bytes)) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const text of lines) {
      if (text.trim() !== '') yield { line, text: text.trim() };
      line++;
    }
  }
  if (rest.trim() !== '') yield { line, text: rest.trim() };
}
