/** Every bound of importing leads, with its unit as the last word. */
export interface ImportLimits {
  /** A line of the file, and a record that runs over several lines. Longer: most likely a quote that is never closed. */
  import_line_bytes: number;
  /** Looked at to recognise the format, the separator and the encoding. */
  import_sample_bytes: number;
  /** Non-blank lines at the beginning among which the header is looked for: some files have a title above it. */
  import_header_lines: number;
  /** Of a workbook: parts of its archive; bytes of one part when unpacked, and how many times its packed size. */
  import_zip_entries: number;
  import_unpacked_bytes: number;
  import_unpack_ratio: number;
  /** Of a workbook: texts that its cells share; one text or tag. */
  import_strings: number;
  import_xml_token_bytes: number;
  import_columns: number;
  import_column_name_chars: number;
  /** Records of one file. */
  import_file_lines: number;
  /** Written in one transaction, at most: whichever comes first. */
  import_batch_lines: number;
  import_batch_bytes: number;
  /** A slow upload is written at least this often, so that it is seen to live. */
  import_commit_every_ms: number;
  /** An import without a sign of life for this long may be taken over by another. */
  import_stale_ms: number;
  /** Kept of a rejected line's text. */
  import_original_chars: number;
  lead_name_chars: number;
  lead_external_id_chars: number;
  lead_attribute_chars: number;
  lead_consent_chars: number;
}

export const defaultImportLimits: ImportLimits = {
  import_line_bytes: 65_536,
  import_sample_bytes: 65_536,
  import_header_lines: 10,
  import_zip_entries: 10_000,
  import_unpacked_bytes: 4_294_967_295,
  import_unpack_ratio: 250,
  import_strings: 10_000_000,
  import_xml_token_bytes: 1_048_576,
  import_columns: 200,
  import_column_name_chars: 100,
  import_file_lines: 5_000_000,
  import_batch_lines: 5_000,
  import_batch_bytes: 4_194_304,
  import_commit_every_ms: 10_000,
  import_stale_ms: 30_000,
  import_original_chars: 2_000,
  lead_name_chars: 200,
  lead_external_id_chars: 200,
  lead_attribute_chars: 2_000,
  lead_consent_chars: 2_000,
};
