/** Why an older installation can't be taken over, or not yet. */
export type AdoptErrorCode =
  /** The address of the old database is none. */
  | 'adopt_source_invalid'
  /** No server answers there. */
  | 'adopt_source_unreachable'
  /** The server refuses the login. */
  | 'adopt_source_login_refused'
  /** The server has no such database. */
  | 'adopt_source_missing'
  /** The connection broke while the old tables were read. */
  | 'adopt_source_lost'
  /** There are no old tables in that schema. */
  | 'adopt_tables_missing'
  /** They may not be read, or not all of their rows. */
  | 'adopt_permission_denied'
  /** They are Carillon's own. */
  | 'adopt_own_tables'
  /** A column without which nothing can be taken over is missing, or of another type. */
  | 'adopt_columns'
  /** Ids that are missing or stand twice: rows could not be told apart. */
  | 'adopt_ids_not_unique'
  /** Neither the jobs nor a table of leads have phone numbers. */
  | 'adopt_no_numbers'
  /** A business named on the command line does not exist. */
  | 'adopt_business_missing'
  /** A carrier account named on the command line does not exist. */
  | 'adopt_account_missing'
  /** Another adoption into this database is under way. */
  | 'adopt_in_progress'
  /** Whoever started it stopped it. */
  | 'adopt_stopped';

/** The adoption stopped; what it had done until then stays done, and is not done again. */
export class AdoptError extends Error {
  readonly code: AdoptErrorCode;
  constructor(code: AdoptErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'AdoptError';
    this.code = code;
  }
}
