/** Why the embedded PostgreSQL does not run. The message tells a person what to do. */
export class EmbeddedError extends Error {
  readonly code: EmbeddedErrorCode;
  constructor(code: EmbeddedErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'EmbeddedError';
    this.code = code;
  }
}

export type EmbeddedErrorCode =
  | 'data_dir_is_file'
  | 'data_dir_not_writable'
  | 'data_dir_in_use'
  | 'data_dir_other_version'
  | 'data_dir_not_ours'
  | 'secrets_missing'
  | 'secrets_unreadable'
  | 'disk_full'
  | 'port_in_use'
  | 'postgres_unsupported_platform'
  | 'postgres_unusable'
  | 'root_without_account'
  | 'postgres_failed';
