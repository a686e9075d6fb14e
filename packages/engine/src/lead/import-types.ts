import type { BusinessId, ImportedFile, ImportId, ListId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import type { Clock } from '../clock.ts';
import type { Mapping } from './columns.ts';
import type { Encoding } from './file/encoding.ts';
import type { ImportLimits } from './limits.ts';
import type { LineVerdict } from './line.ts';

export interface ImportOptions {
  actor: Actor;
  /** Where numbers without a country code belong, ISO 3166-1 alpha-2; the business's own when left out. */
  country?: string | undefined;
  mapping?: Mapping | undefined;
  /** Recognised when left out. */
  encoding?: Encoding | undefined;
  /** Of a workbook; the first that is not hidden when left out. */
  sheet?: string | undefined;
  /** The same key with the same list, options and bytes gets the report of the import that was done under it. */
  idempotency_key?: string | undefined;
  limits?: Partial<ImportLimits> | undefined;
  /** Told after each batch that is in the database. `read`: how much of the file that is, 0 to 1, where it tells. */
  onProgress?: ((totals: ImportTotals, read: number | null) => void) | undefined;
  clock?: Clock | undefined;
}

/** An import under way. It may write as long as the list names it: see `lockForImport`. */
export interface ImportFence {
  business_id: BusinessId;
  list_id: ListId;
  import_id: ImportId;
  /** The list's leads when the import began; its members go above. */
  members_before: number;
}

/** accepted + duplicates + rejected = lines. */
export interface ImportTotals {
  lines: number;
  accepted: number;
  duplicates: number;
  rejected: number;
  /** Leads of the business that got a new value. */
  updated: number;
  /** Lines by reason. */
  reasons: Record<string, number>;
}

export const NO_TOTALS: ImportTotals = { lines: 0, accepted: 0, duplicates: 0, rejected: 0, updated: 0, reasons: {} };

/** How far an import has come, as its row tells while it runs. */
export interface ImportStanding {
  totals: ImportTotals;
  /** Of the upload. */
  bytes_read: number;
  /** Null until the header is known. */
  file: ImportedFile | null;
}

export type JudgedLine = { line: number; original: string } & LineVerdict;
