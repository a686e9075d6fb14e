import type { LineReason } from '../reasons.ts';

/** One record of a file, whatever its format. */
export interface FileRow {
  /** Of the file, where the record begins; the first is 1. Rises from record to record. */
  line: number;
  fields: string[];
  /** The record as it stands in the file; of a spreadsheet, its values with commas between them. */
  raw: string;
  /** The columns whose value the spreadsheet holds as a number: leading zeros may be lost. */
  numbers?: ReadonlySet<number> | undefined;
  /** Why the record can't be read by itself; it has no fields then. */
  reason?: LineReason | undefined;
  /** The names of the fields, where each record brings its own: it grows from record to record. */
  keys?: readonly string[] | undefined;
}

/** A file that is being read. */
export interface FileRows {
  format: 'csv' | 'ndjson' | 'xlsx';
  separator: string | null;
  sheet: string | null;
  /** Known for certain once the rows are read: the first letter beyond ASCII may stand anywhere. Null for XLSX. */
  encoding(): string | null;
  /** 0 to 1, where the file tells; the reader of a stream knows better what it has given. */
  progress(): number | null;
  rows: AsyncIterable<FileRow>;
}
