import type { ImportLimits } from '../limits.ts';
import { readCsv } from './csv.ts';
import { type Encoding, encodingOfStart, sampleText, toUtf8 } from './encoding.ts';
import { readNdjson } from './ndjson.ts';
import { recogniseKind, recogniseText } from './recognise.ts';
import type { FileRow, FileRows } from './row.ts';
import { takeSample } from './sample.ts';
import { recogniseSeparator, SEPARATOR_LINE } from './separator.ts';
import { openTemporary, spool } from './spool.ts';
import { openSheet } from './xlsx.ts';

export interface OpenOptions {
  /** When it is known better than by looking. */
  encoding?: Encoding | undefined;
  /** Of a workbook; the first that is not hidden when left out. */
  sheet?: string | undefined;
  limits: ImportLimits;
  /** Whether a line's values look like a header, or like a lead where there is none. */
  isHeader(fields: string[]): boolean;
  /** Called between pieces of work that write nothing. */
  alive(): Promise<void>;
}

/**
 * Opens a file of leads for `work`: XLSX, NDJSON, or values separated by commas, semicolons, tabs or bars, recognised by
 * what is in it. All but XLSX is read as it comes; a workbook is kept in a temporary file until `work` is done.
 *
 * Throws `import_format_unsupported`, `import_encoding_unknown`, `import_no_space`, what `openSheet` throws, what `work`
 * throws; the rows throw `import_not_text`, `import_broken` and what the source throws.
 */
export async function withFile<T>(
  source: AsyncIterable<Buffer>,
  options: OpenOptions,
  work: (file: FileRows) => Promise<T>,
): Promise<T> {
  const { limits } = options;
  const { sample, bytes, close } = await takeSample(source, limits.import_sample_bytes);
  try {
    if (recogniseKind(sample) === 'text') return await work(openText(sample, bytes, options));
    return await withWorkbook(bytes, options, work);
  } finally {
    close();
  }
}

async function withWorkbook<T>(
  bytes: AsyncIterable<Buffer>,
  options: OpenOptions,
  work: (file: FileRows) => Promise<T>,
): Promise<T> {
  const file = await openTemporary();
  try {
    await spool(bytes, file, options.alive);
    const sheet = await openSheet(file, options.sheet, options.limits, options.alive);
    const { rows, progress, name } = sheet;
    return await work({ format: 'xlsx', separator: null, sheet: name, encoding: () => null, progress, rows });
  } finally {
    await file.close();
  }
}

function openText(sample: Buffer, bytes: AsyncIterable<Buffer>, options: OpenOptions): FileRows {
  const { limits } = options;
  let encoding = options.encoding ?? encodingOfStart(sample);
  const text = sampleText(sample, encoding);
  const utf8 = toUtf8(bytes, encoding, limits.import_sample_bytes, (decided) => (encoding = decided));
  const common = { sheet: null, encoding: () => encoding ?? 'utf-8', progress: () => null };
  if (recogniseText(text) === 'ndjson')
    return { ...common, format: 'ndjson', separator: null, rows: readNdjson(utf8, limits) };
  const separator = recogniseSeparator(text, options.isHeader);
  return { ...common, format: 'csv', separator, rows: withoutSeparatorLine(readCsv(utf8, separator, limits)) };
}

async function* withoutSeparatorLine(rows: AsyncIterable<FileRow>): AsyncGenerator<FileRow> {
  for await (const row of rows) if (row.line > 1 || !SEPARATOR_LINE.test(row.raw)) yield row;
}
