/**
 * What `migrate` and `migrationStatus` refuse or fail with. The code names the case for programs, the message tells a
 * person what to do.
 */
export class MigrateError extends Error {
  readonly code: MigrateErrorCode;
  constructor(code: MigrateErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'MigrateError';
    this.code = code;
  }
}

export type MigrateErrorCode =
  // The server
  | 'database_unreachable'
  | 'login_refused'
  | 'server_too_old'
  | 'server_read_only'
  // Whose schema it is
  | 'schema_is_foreign'
  | 'schema_not_allowed'
  | 'migration_busy'
  // The files, alone and against the history
  | 'migrations_unreadable'
  | 'migration_misnamed'
  | 'migration_duplicate'
  | 'migration_gap'
  | 'migration_malformed'
  | 'migration_changed'
  | 'migration_missing'
  | 'database_newer'
  // Running them
  | 'migration_failed'
  | 'migration_left_invalid_index'
  // Logins and grants
  | 'app_url_invalid'
  | 'app_is_owner'
  | 'app_role_too_strong'
  | 'role_missing'
  | 'access_failed';
