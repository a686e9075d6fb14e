import { CarillonError, type ImportedFile } from '@carillon/contract';
import type { CountryCode } from 'libphonenumber-js/min';
import { type Columns, extendColumns, type Mapping, recogniseColumns, shown } from './columns.ts';
import type { FileRow, FileRows } from './file/row.ts';
import type { ImportLimits } from './limits.ts';
import { readPhone } from './phone.ts';
import { cellText, plain } from './text.ts';

/** A line of the list, with what its columns mean. */
export interface PlacedRow {
  row: FileRow;
  columns: Columns;
}

export interface HeaderOptions {
  mapping: Mapping;
  country: CountryCode;
  limits: ImportLimits;
  /** Told once, before the first line of the list. */
  onColumns(columns: Columns, header: readonly string[] | null): void;
}

/**
 * Finds the header of a file, and gives the lines below it. The header is the first line that names a phone column; a
 * title may stand above. A file whose first line has a phone number in it has none: its columns are called "column 1"
 * and so on, the only column with a number in it is the phone's, the first one with letters the name's. NDJSON brings
 * names of its own.
 *
 * Throws `import_file_empty`, `import_no_phone_column`, `import_phone_column_ambiguous`, `import_broken`,
 * `invalid_request`.
 */
export async function* placeRows(rows: AsyncIterable<FileRow>, options: HeaderOptions): AsyncGenerator<PlacedRow> {
  let columns: Columns | null = null;
  let keys: readonly string[] | undefined;
  const before: FileRow[] = [];
  for await (const row of rows) {
    // An object is never blank: somebody wrote it.
    if (!row.keys && row.fields.every((value) => plain(value) === '')) continue;
    if (row.keys && row.keys !== keys) {
      columns = columns ? extendColumns(columns, row.keys, options.limits) : told(row.keys, options);
      keys = row.keys;
    } else if (!columns) {
      const found = readHeader(row, before, options);
      if (found === 'later') {
        before.push(row);
        continue;
      }
      columns = found.columns;
      options.onColumns(columns, found.header);
      if (found.header) continue;
    }
    if (columns) yield { row, columns };
  }
  const [first] = before;
  if (!columns && first) throw noPhoneColumn(first.fields, options.mapping);
  if (!columns) throw new CarillonError('import_file_empty');
}

function told(keys: readonly string[], options: HeaderOptions): Columns {
  const columns = recogniseColumns(keys, options.mapping, options.limits);
  options.onColumns(columns, keys);
  return columns;
}

type Found = { columns: Columns; header: readonly string[] | null } | 'later';

function readHeader({ fields }: FileRow, before: readonly FileRow[], options: HeaderOptions): Found {
  const { mapping, limits, country } = options;
  if (before.length === 0 && startsWithLead(fields, options)) return withoutHeader(fields, options);
  const phones = phoneCells(fields, country);
  const above = before.at(-1);
  // The list has begun, so the line above is all the header that there is.
  if (above && phones.length > 0 && mapping.phone === undefined) throw noPhoneColumn(above.fields, mapping);
  try {
    return { columns: recogniseColumns(fields, mapping, limits), header: fields };
  } catch (error) {
    if (!(error instanceof CarillonError && error.code === 'import_no_phone_column')) throw error;
    if (before.length + 1 < limits.import_header_lines) return 'later';
    throw noPhoneColumn((before[0] ?? { fields }).fields, mapping);
  }
}

const NAMELESS = /^column \d+$/i;

/** Whether the first line is a lead: it has a number in it, and nobody named a column that it could be the header of. */
function startsWithLead(fields: readonly string[], { mapping, country }: HeaderOptions): boolean {
  if (mapping.phone !== undefined) return NAMELESS.test(mapping.phone) && !fields.some((name) => NAMELESS.test(name));
  return phoneCells(fields, country).length > 0;
}

function withoutHeader(fields: readonly string[], { mapping, country, limits }: HeaderOptions): Found {
  const header = fields.map((_, index) => `column ${index + 1}`);
  const phones = phoneCells(fields, country);
  const [phone, another] = phones;
  if (mapping.phone === undefined && another !== undefined)
    throw new CarillonError('import_phone_column_ambiguous', {
      columns: shown(phones.map((index) => header[index] ?? '')),
    });
  const name = fields.findIndex((value, index) => index !== phone && /\p{L}{2}/u.test(value) && !/\d/.test(value));
  const found = {
    ...(phone === undefined ? {} : { phone: header[phone] }),
    ...(name < 0 ? {} : { name: header[name] }),
    ...mapping,
  };
  return { columns: recogniseColumns(header, found, limits), header: null };
}

/** The cells that hold a number which can be called, written in as many digits as people have. */
function phoneCells(fields: readonly string[], country: CountryCode): number[] {
  return fields.flatMap((value, index) => {
    const digits = value.replace(/\D/g, '').length;
    return digits >= 7 && readPhone(value, country).ok ? [index] : [];
  });
}

function noPhoneColumn(header: readonly string[], { phone: wanted }: Mapping): CarillonError {
  return new CarillonError('import_no_phone_column', {
    columns: shown(header),
    ...(wanted === undefined ? {} : { wanted }),
  });
}

/** Whether a line could be a header, or a lead: for telling separators apart. */
export function looksLikeHeader(fields: readonly string[], options: Omit<HeaderOptions, 'onColumns'>): boolean {
  const { mapping, country, limits } = options;
  if (phoneCells(fields, country).length > 0) return true;
  try {
    recogniseColumns(fields, mapping, limits);
    return true;
  } catch (error) {
    return error instanceof CarillonError && error.code === 'import_phone_column_ambiguous';
  }
}

/** How a file was read, for the report. */
export function describeFile(file: FileRows, columns: Columns, header: readonly string[] | null): ImportedFile {
  const nameOf = (index: number) => cellText(header?.[index] ?? '') || `column ${index + 1}`;
  const orNull = (index: number | null) => (index === null ? null : nameOf(index));
  const consent = [columns.consent_source, columns.consent_at, columns.consent_text];
  return {
    format: file.format,
    encoding: file.encoding(),
    separator: file.separator,
    sheet: file.sheet,
    header: header !== null,
    columns: {
      phone: nameOf(columns.phone),
      name: columns.name.map(nameOf),
      external_id: orNull(columns.external_id),
      time_zone: orNull(columns.time_zone),
      consent: consent.flatMap((index) => orNull(index) ?? []),
      attributes: columns.attributes.length,
    },
  };
}
