import type { BusinessId, ImportId, ListId } from '@carillon/contract';
import type { Clock } from '../clock.ts';
import type { Mapping } from './columns.ts';
import type { ImportLimits } from './limits.ts';
import type { LineVerdict } from './line.ts';

export interface ImportOptions {
  /** Where numbers without a country code belong, ISO 3166-1 alpha-2; the business's own when left out. */
  country?: string | undefined;
  mapping?: Mapping | undefined;
  /** The same key with the same list, options and bytes gets the report of the import that was done under it. */
  idempotency_key?: string | undefined;
  limits?: Partial<ImportLimits> | undefined;
  /** Told after each batch that is in the database. */
  onProgress?: ((totals: ImportTotals) => void) | undefined;
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
}

export type JudgedLine = { line: number; original: string } & LineVerdict;
