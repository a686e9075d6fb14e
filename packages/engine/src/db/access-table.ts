/** Who may do what in the schema `carillon`. `migrate` makes the database agree, and takes away what is not here. */

export type TablePrivilege = 'SELECT' | 'INSERT' | 'UPDATE' | 'DELETE';

const ALL: readonly TablePrivilege[] = ['SELECT', 'INSERT', 'UPDATE', 'DELETE'];

/** The application login's privileges on each table. Row security narrows them to one business's rows. */
export const appGrants: Readonly<Record<string, readonly TablePrivilege[]>> = {
  // The worker and the API compare it with their own files.
  schema_migrations: ['SELECT'],
  // Updated by column: see appUpdates.
  businesses: ['SELECT', 'INSERT'],
  api_keys: ALL,
  // Never deleted: the trail names them.
  system_keys: ['SELECT', 'INSERT', 'UPDATE'],
  carrier_accounts: ALL,
  lanes: ALL,
  unwanted_calls: ALL,
  leads: ALL,
  lists: ALL,
  list_members: ALL,
  list_imports: ALL,
  import_lines: ALL,
  lead_consents: ALL,
  outbound_call_runs: ALL,
  outbound_call_jobs: ALL,
  run_leads: ALL,
  job_schedule: ALL,
  open_attempts: ALL,
  // Append-only: what was once written about a call can't be changed or removed by the application.
  attempts: ['SELECT', 'INSERT'],
  workers: ALL,
  installation_state: ['SELECT', 'UPDATE'],
  witnesses: ALL,
  // Append-only, like attempts.
  audit_events: ['SELECT', 'INSERT'],
  installation_events: ['SELECT', 'INSERT'],
  adoptions: ['SELECT', 'INSERT', 'UPDATE'],
  adopted_runs: ['SELECT', 'INSERT', 'UPDATE'],
  adopted_leads: ['SELECT', 'INSERT'],
  adopted_jobs: ['SELECT', 'INSERT', 'UPDATE'],
  // Updated where a person is erased.
  adopted_rows: ['SELECT', 'INSERT', 'UPDATE'],
  // Never updated, but PostgreSQL asks for UPDATE where a row is locked to be removed.
  receipts: ALL,
};

/** Tables of which the application may update some columns only. A business stays the canary that it is, or is not. */
export const appUpdates: Readonly<Record<string, readonly string[]>> = {
  businesses: ['name', 'country', 'language', 'time_zone'],
};

/** The functions that the application may call. Each name is one function's. */
export const appFunctions: readonly string[] = ['remove_canary'];

/**
 * The columns that the discovery login may read, across all businesses: enough to see where work is, and for the system
 * administrators' security report. Of what businesses keep, no more than that an id exists and since when.
 */
export const discoveryColumns: Readonly<Record<string, readonly string[]>> = {
  businesses: ['business_id', 'name', 'canary', 'created_at'],
  outbound_call_runs: [
    'business_id',
    'run_id',
    'status',
    'queued',
    'in_progress',
    'starts_at',
    'ends_at',
    'lock_ts',
    'policy',
    'cancel_requested_at',
    'swept_seq',
    'total_leads',
    'created_at',
    'needs_review',
    'reclaim_count',
  ],
  job_schedule: ['business_id', 'run_id', 'due_us', 'reason'],
  open_attempts: [
    'business_id',
    'run_id',
    'seq',
    'carrier_account_id',
    'state',
    'deadline_us',
    'heard_us',
    'asked_us',
    'hang_up',
  ],
  unwanted_calls: ['business_id', 'carrier_account_id', 'call_id', 'asked_us', 'over_at'],
  api_keys: ['business_id', 'key_id', 'created_at'],
  // One number of one account at the carrier, entered by two businesses: their calls could be taken for each other's.
  carrier_accounts: [
    'business_id',
    'carrier_account_id',
    'base_url',
    'account_sid',
    'from_numbers',
    'created_at',
    'last_callback_at',
  ],
  lanes: [
    'business_id',
    'carrier_account_id',
    'halted_reason',
    'halted_until_us',
    'restores_settled',
    'restore_problem',
  ],
  lists: ['business_id', 'list_id', 'created_at'],
  list_imports: ['business_id', 'import_id', 'created_at'],
  leads: ['business_id', 'lead_id', 'created_at'],
  // Which business took over which of an older installation's, so that adopting again makes no second one.
  adoptions: ['business_id', 'source', 'old_business'],
  audit_events: [
    'business_id',
    'event_id',
    'kind',
    'action',
    'actor',
    'source',
    'request_id',
    'subject_type',
    'subject_id',
    'at',
  ],
};

/**
 * Settings of both logins, in force however they connect. `idle_in_transaction_timeout_ms` must be below the lease TTL.
 * A lock is waited for longer than that, so that one held by a stalled process is got in the end.
 */
export function roleSettings(idle_in_transaction_timeout_ms: number): Readonly<Record<string, string>> {
  return {
    search_path: 'carillon',
    idle_in_transaction_session_timeout: String(idle_in_transaction_timeout_ms),
    lock_timeout: String(idle_in_transaction_timeout_ms + 10_000),
    statement_timeout: '120000',
    // Plans must not depend on statistics that don't know a new run or business yet: planned with its number at hand, a
    // look-up by primary key became a scan of that business, 10 ms instead of 10 µs. A plan for any number is made once
    // for each connection, and since everything hot goes by an index, none may be made of scans while a table is small.
    plan_cache_mode: 'force_generic_plan',
    enable_seqscan: 'off',
    // Nor of all rows that fit, to be sorted, where an index has them in the order that is asked for, and the first will do.
    enable_bitmapscan: 'off',
    // Seconds: a client that vanished with its machine is noticed, and its locks are freed, after 10 + 3 × 5.
    tcp_keepalives_idle: '10',
    tcp_keepalives_interval: '5',
    tcp_keepalives_count: '3',
  };
}
