import { AdoptError } from './errors.ts';

/** A table as the old database has it: its columns with their types. */
export interface OldTable {
  columns: ReadonlyMap<string, string>;
}

export interface OldTables {
  runs: OldTable;
  jobs: OldTable;
  /** Null where the old installation has no such table. */
  leads: OldTable | null;
}

/** Which column holds what. A field's names in the order in which one is preferred; the first that is there is taken. */
const FIELDS = {
  runs: {
    business: ['business_id', 'tenant_id', 'organization_id', 'org_id', 'company_id'],
    status: ['status', 'state'],
    name: ['name', 'title', 'campaign_name'],
    concurrency: ['concurrency', 'max_concurrency', 'concurrency_limit'],
    last_error: ['last_error', 'error', 'error_message'],
    created_at: ['created_at', 'created'],
    created_by_user_id: ['created_by_user_id', 'created_by', 'user_id'],
    started_at: ['started_at'],
    ended_at: ['ended_at', 'finished_at', 'completed_at'],
    updated_at: ['updated_at'],
    cancel_requested: ['cancel_requested', 'cancel_requested_at'],
    lock_ts: ['lock_ts', 'locked_at'],
  },
  jobs: {
    business: ['business_id', 'tenant_id', 'organization_id', 'org_id', 'company_id'],
    run: ['run_id'],
    lead: ['lead_id'],
    phone: ['phone', 'phone_number', 'to_number', 'to_phone', 'destination', 'mobile', 'msisdn', 'number'],
    name: ['lead_name', 'contact_name', 'customer_name', 'name'],
    status: ['status', 'state'],
    outcome: ['outcome', 'last_outcome', 'call_outcome', 'call_status', 'disposition', 'result'],
    attempts: ['attempts', 'attempt_count', 'tries'],
    call: ['call_id', 'call_sid', 'provider_call_id', 'external_call_id', 'twilio_call_sid'],
    called_at: ['called_at', 'dialed_at', 'call_started_at', 'started_at'],
    ended_at: ['ended_at', 'finished_at', 'completed_at'],
    updated_at: ['updated_at'],
    created_at: ['created_at', 'created'],
  },
  leads: {
    business: ['business_id', 'tenant_id', 'organization_id', 'org_id', 'company_id'],
    phone: ['phone', 'phone_number', 'mobile', 'mobile_phone', 'telephone', 'msisdn', 'number'],
    name: ['name', 'full_name'],
    first_name: ['first_name'],
    last_name: ['last_name'],
    external_id: ['external_id', 'crm_id'],
    time_zone: ['time_zone', 'timezone'],
    created_at: ['created_at', 'created'],
    do_not_call: ['do_not_call', 'dnc', 'opted_out', 'opt_out', 'unsubscribed'],
  },
} as const;

/** Where an old system may have written that a person cancelled a job that it then called failed. */
const ERROR_COLUMNS = ['last_error', 'error', 'error_message', 'failure_reason', 'reason'];

type Columns<Table extends keyof typeof FIELDS> = { readonly [Field in keyof (typeof FIELDS)[Table]]: string | null };

/** What was recognised: for each field the name of its column, null where there is none. */
export interface Shape {
  runs: Columns<'runs'> & { id: 'id' | 'run_id' };
  jobs: Columns<'jobs'> & { id: 'id' | 'job_id'; errors: readonly string[] };
  leads: (Columns<'leads'> & { id: 'id' | 'lead_id' }) | null;
}

/** A column of Carillon's own tables that no older installation has. */
const OURS = { runs: 'claim_cursor', jobs: 'seq' } as const;

const INTEGERS = new Set(['smallint', 'integer', 'bigint', 'numeric']);

/**
 * Recognises the old tables' columns. Throws `adopt_own_tables`, `adopt_columns`, `adopt_no_numbers`.
 */
export function recogniseShape(tables: OldTables): Shape {
  const { runs, jobs } = tables;
  if (runs.columns.has(OURS.runs) || jobs.columns.has(OURS.jobs))
    throw new AdoptError(
      'adopt_own_tables',
      "These are Carillon's own tables, which need no adopting; name the older installation's database and schema",
    );
  const found: Shape = {
    runs: { ...pick('runs', runs), id: idOf(runs, 'outbound_call_runs', 'run_id') },
    jobs: {
      ...pick('jobs', jobs),
      id: idOf(jobs, 'outbound_call_jobs', 'job_id'),
      errors: ERROR_COLUMNS.filter((name) => jobs.columns.has(name)),
    },
    leads: null,
  };
  requireColumn(jobs, 'run_id', 'which run a job belongs to');
  if (found.jobs.lead === null && found.jobs.phone === null)
    throw new AdoptError(
      'adopt_columns',
      'outbound_call_jobs has neither a column lead_id nor one with a phone number, so nobody can say whom a job calls',
    );
  if (found.jobs.lead !== null) requireColumn(jobs, 'lead_id', 'whom a job calls');
  if (found.jobs.status === null)
    throw new AdoptError(
      'adopt_columns',
      'outbound_call_jobs has no column status, so nobody can say who was called already',
    );
  // Leads that no job names are not asked for.
  if (tables.leads && found.jobs.lead !== null)
    found.leads = { ...pick('leads', tables.leads), id: idOf(tables.leads, 'leads', 'lead_id') };
  if (found.jobs.phone === null && (found.leads?.phone ?? null) === null)
    throw new AdoptError(
      'adopt_no_numbers',
      tables.leads
        ? 'Neither outbound_call_jobs nor leads has a column with phone numbers (phone, phone_number, mobile …)'
        : 'outbound_call_jobs has no column with phone numbers, and there is no table leads beside it',
    );
  return found;
}

function pick<Table extends keyof typeof FIELDS>(table: Table, { columns }: OldTable): Columns<Table> {
  const entries = Object.entries<readonly string[]>(FIELDS[table]).map(
    ([field, names]) => [field, names.find((name) => columns.has(name)) ?? null] as const,
  );
  return Object.fromEntries(entries) as Columns<Table>;
}

function idOf<Other extends string>(table: OldTable, name: string, other: Other): 'id' | Other {
  const id = table.columns.has('id') ? 'id' : other;
  requireColumn(table, id, `which row of ${name} is which`, `${name} has no column id or ${other}`);
  return id;
}

function requireColumn(table: OldTable, name: string, why: string, missing?: string): void {
  const type = table.columns.get(name);
  if (type === undefined)
    throw new AdoptError('adopt_columns', `${missing ?? `There is no column ${name}`}, so nobody can say ${why}`);
  if (!INTEGERS.has(type))
    throw new AdoptError(
      'adopt_columns',
      `The column ${name} is of type ${type}; the ids of runs, jobs and leads must be integers`,
    );
}

/** Fields that the report tells of when they are missing, each with what is done without it. */
const WITHOUT: readonly (readonly [keyof Shape, string, string])[] = [
  ['runs', 'business', 'all rows belong to one business'],
  ['runs', 'status', 'every run is taken as unfinished'],
  ['runs', 'name', 'runs are called by their old number'],
  ['runs', 'concurrency', 'a run may use all lines of its account'],
  ['runs', 'created_at', 'runs were created when they are adopted'],
  ['runs', 'started_at', 'nobody knows when runs started'],
  ['runs', 'ended_at', 'runs ended when they were last changed'],
  ['jobs', 'attempts', 'only its status tells whether a job was called'],
  ['jobs', 'outcome', 'a failed call has no finer outcome'],
  ['jobs', 'updated_at', 'jobs were last changed when they are adopted'],
  ['leads', 'name', 'leads have no name'],
  ['leads', 'created_at', 'leads were created when they are adopted'],
];

/** What is there under which name, what is missing, and what is assumed for it: for the report. */
export function describeShape(shape: Shape): { found: Record<string, string>; missing: string[]; assumed: string[] } {
  const found: Record<string, string> = {};
  for (const table of ['runs', 'jobs', 'leads'] as const)
    for (const [field, column] of Object.entries(shape[table] ?? {}))
      if (typeof column === 'string') found[`${table}.${field}`] = column;
  const absent = WITHOUT.filter(([table, field]) => shape[table] !== null && !(`${table}.${field}` in found));
  const missing = absent.map(([table, field]) => `${table}.${field}`);
  const assumed = absent.map(([table, field, so]) => `no ${table}.${field}: ${so}`);
  if (shape.leads === null) {
    missing.push('leads');
    assumed.push('no table of leads: numbers are those of the jobs');
  }
  return { found, missing, assumed };
}
