import pg from 'pg';
import { AdoptError } from './errors.ts';
import type { OldRow } from './old-rows.ts';
import { type OldTable, type OldTables, recogniseShape, type Shape } from './shape.ts';

/**
 * The old database, read in one read-only transaction: every page is of one and the same moment, nothing can be
 * written, and what it locks stands in the way of nobody who reads or writes rows.
 */
export interface Source {
  /** Which installation this is: its server's own identifier, the database and the schema. The same after a restart. */
  readonly key: string;
  readonly database: string;
  readonly schema: string;
  /** The old server's clock, ISO 8601. */
  readonly now: string;
  readonly shape: Shape;
  readonly counts: { runs: number; jobs: number };
  /** The greatest old ids up to `kept_id`. */
  readonly greatest: { run_id: number; lead_id: number };
  runsAfter(id: number, limit: number): Promise<OldRow[]>;
  runsById(ids: readonly number[]): Promise<OldRow[]>;
  jobsAfter(id: number, limit: number): Promise<OldRow[]>;
  jobsById(ids: readonly number[]): Promise<OldRow[]>;
  /** Nothing where there is no table of leads. */
  leadsById(ids: readonly number[]): Promise<OldRow[]>;
  close(): Promise<void>;
}

// Written out for each name that the id may have: no SQL is put together. The schema is set as the search path. A row
// is read whole, as JSON, so that it does not matter which columns there are, and the archive keeps all of them.
const SQL = {
  runs: {
    id: {
      after:
        'SELECT t.id, to_jsonb(t)::text AS text FROM outbound_call_runs t WHERE t.id > $1::bigint ORDER BY t.id LIMIT $2',
      by_id: 'SELECT t.id, to_jsonb(t)::text AS text FROM outbound_call_runs t WHERE t.id = ANY ($1::bigint[])',
      count:
        'SELECT count(*) AS n, count(DISTINCT t.id) AS ids, max(t.id) FILTER (WHERE t.id <= $1::bigint) AS kept, max(t.id) AS greatest FROM outbound_call_runs t',
    },
    run_id: {
      after:
        'SELECT t.run_id AS id, to_jsonb(t)::text AS text FROM outbound_call_runs t WHERE t.run_id > $1::bigint ORDER BY t.run_id LIMIT $2',
      by_id:
        'SELECT t.run_id AS id, to_jsonb(t)::text AS text FROM outbound_call_runs t WHERE t.run_id = ANY ($1::bigint[])',
      count:
        'SELECT count(*) AS n, count(DISTINCT t.run_id) AS ids, max(t.run_id) FILTER (WHERE t.run_id <= $1::bigint) AS kept, max(t.run_id) AS greatest FROM outbound_call_runs t',
    },
  },
  jobs: {
    id: {
      after:
        'SELECT t.id, to_jsonb(t)::text AS text FROM outbound_call_jobs t WHERE t.id > $1::bigint ORDER BY t.id LIMIT $2',
      by_id: 'SELECT t.id, to_jsonb(t)::text AS text FROM outbound_call_jobs t WHERE t.id = ANY ($1::bigint[])',
      count:
        'SELECT count(*) AS n, count(DISTINCT t.id) AS ids, max(t.id) FILTER (WHERE t.id <= $1::bigint) AS kept, max(t.id) AS greatest FROM outbound_call_jobs t',
    },
    job_id: {
      after:
        'SELECT t.job_id AS id, to_jsonb(t)::text AS text FROM outbound_call_jobs t WHERE t.job_id > $1::bigint ORDER BY t.job_id LIMIT $2',
      by_id:
        'SELECT t.job_id AS id, to_jsonb(t)::text AS text FROM outbound_call_jobs t WHERE t.job_id = ANY ($1::bigint[])',
      count:
        'SELECT count(*) AS n, count(DISTINCT t.job_id) AS ids, max(t.job_id) FILTER (WHERE t.job_id <= $1::bigint) AS kept, max(t.job_id) AS greatest FROM outbound_call_jobs t',
    },
  },
  leads: {
    id: { by_id: 'SELECT t.id, to_jsonb(t)::text AS text FROM leads t WHERE t.id = ANY ($1::bigint[])' },
    lead_id: {
      by_id: 'SELECT t.lead_id AS id, to_jsonb(t)::text AS text FROM leads t WHERE t.lead_id = ANY ($1::bigint[])',
    },
  },
} as const;

const TABLES = { runs: 'outbound_call_runs', jobs: 'outbound_call_jobs', leads: 'leads' } as const;

/** Connects, looks at the tables and opens the snapshot. Throws AdoptError. */
export async function openSource(url: string, schema: string, kept_id: number): Promise<Source> {
  const client = await connect(url);
  const ask = async <Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<Row[]> => {
    try {
      return (await client.query<Row>(text, values as unknown[])).rows;
    } catch (error) {
      throw explain(error);
    }
  };
  try {
    const server = await identify(ask);
    await ask('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
    // Settings of the old database that would break off a long reading; and an error instead of silence where row
    // security hides rows from this login.
    await ask(
      `SELECT set_config('search_path', quote_ident($1), true), set_config('statement_timeout', '0', true),
              set_config('idle_in_transaction_session_timeout', '0', true), set_config('lock_timeout', '10s', true),
              set_config('row_security', 'off', true)`,
      [schema],
    );
    const shape = recogniseShape(await readTables(ask, server.database, schema));
    const { runs, jobs, greatest } = await countRows(ask, shape, kept_id);
    const rows = async (text: string, values: readonly unknown[]) =>
      (await ask<{ id: string; text: string }>(text, values)).map((row): OldRow => ({ ...row, id: Number(row.id) }));
    const sql = { runs: SQL.runs[shape.runs.id], jobs: SQL.jobs[shape.jobs.id] };
    const leads = shape.leads ? SQL.leads[shape.leads.id].by_id : null;
    return {
      key: `${server.identifier}/${server.database}/${schema}`,
      database: server.database,
      schema,
      now: server.now,
      shape,
      counts: { runs, jobs },
      greatest,
      runsAfter: (id, limit) => rows(sql.runs.after, [id, limit]),
      runsById: (ids) => rows(sql.runs.by_id, [ids]),
      jobsAfter: (id, limit) => rows(sql.jobs.after, [id, limit]),
      jobsById: (ids) => rows(sql.jobs.by_id, [ids]),
      leadsById: async (ids) => (leads === null || ids.length === 0 ? [] : rows(leads, [ids])),
      close: () => client.end(),
    };
  } catch (error) {
    await client.end();
    throw error;
  }
}

type Ask = <Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]) => Promise<Row[]>;

async function connect(url: string): Promise<pg.Client> {
  if (!/^postgres(ql)?:\/\//.test(url) || !URL.canParse(url))
    throw new AdoptError(
      'adopt_source_invalid',
      'The address of the old database is not of the form postgres://user:password@host/database',
    );
  const client = new pg.Client({
    connectionString: url,
    application_name: 'carillon adopt',
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
  });
  // One that breaks between two statements shows in the next; without a listener it would end the process.
  client.on('error', () => {});
  try {
    await client.connect();
    return client;
  } catch (error) {
    client.end().catch(() => {});
    throw explainConnect(error);
  }
}

function explainConnect(error: unknown): AdoptError {
  const code = error instanceof pg.DatabaseError ? (error.code ?? '') : '';
  const said = messageOf(error);
  const because = (kind: AdoptError['code'], what: string) =>
    new AdoptError(kind, `${what}: ${said}`, { cause: error });
  if (code === '3D000') return because('adopt_source_missing', 'There is no such database on the old server');
  if (code.startsWith('28')) return because('adopt_source_login_refused', 'The old server refuses the login');
  if (code === '42501') return because('adopt_permission_denied', 'The login may not connect to the old database');
  return because('adopt_source_unreachable', "The old database can't be reached");
}

/** An error of a statement, in words that somebody can act on. */
function explain(error: unknown): unknown {
  if (!(error instanceof pg.DatabaseError))
    return new AdoptError(
      'adopt_source_lost',
      `The connection to the old database broke: ${messageOf(error)}. Adopt again: it goes on where it was`,
      { cause: error },
    );
  if (error.code === '42501')
    return new AdoptError(
      'adopt_permission_denied',
      `The login may not read the old tables, or not all of their rows: ${error.message}. Give it SELECT on outbound_call_runs, outbound_call_jobs and leads, and BYPASSRLS where they have row security`,
      { cause: error },
    );
  if (error.code?.startsWith('57P') || error.code?.startsWith('08') || error.code === '25P03' || error.code === '55P03')
    return new AdoptError(
      'adopt_source_lost',
      `The old database broke off the reading: ${error.message}. Adopt again: it goes on where it was`,
      { cause: error },
    );
  return error;
}

function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return [...new Set(error.errors.map(messageOf))].join('; ');
  return error instanceof Error ? error.message : String(error);
}

async function identify(ask: Ask): Promise<{ identifier: string; database: string; now: string }> {
  const [server] = await ask<{ identifier: string; database: string; now: string }>(
    `SELECT (SELECT system_identifier::text FROM pg_control_system()) AS identifier,
            current_database()::text AS database, to_json(now())#>>'{}' AS now`,
  );
  if (!server) throw new Error('the old server did not say who it is');
  return server;
}

/** From the catalog, which also names tables that the login may not read. */
async function readTables(ask: Ask, database: string, schema: string): Promise<OldTables> {
  const columns = await ask<{ table: string; name: string; type: string; readable: boolean }>(
    `SELECT c.relname::text AS "table", a.attname::text AS name, format_type(a.atttypid, NULL) AS type,
            has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AS readable
     FROM pg_catalog.pg_class c
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
     ORDER BY a.attnum`,
    [schema, Object.values(TABLES)],
  );
  const hidden = [...new Set(columns.filter(({ readable }) => !readable).map(({ table }) => table))];
  if (hidden.length > 0)
    throw new AdoptError(
      'adopt_permission_denied',
      `The login may not read ${hidden.join(' and ')} in the schema ${schema} of ${database}; grant it USAGE on the schema and SELECT on the tables`,
    );
  const table = (name: string): OldTable | null => {
    const own = columns.filter((column) => column.table === name);
    return own.length === 0 ? null : { columns: new Map(own.map((column) => [column.name, column.type])) };
  };
  const [runs, jobs] = [table(TABLES.runs), table(TABLES.jobs)];
  if (!runs || !jobs) {
    const missing = [runs ? [] : TABLES.runs, jobs ? [] : TABLES.jobs].flat().join(' and no table ');
    throw new AdoptError(
      'adopt_tables_missing',
      `There is no table ${missing} in the schema ${schema} of ${database}; name the schema with --schema, or another database`,
    );
  }
  return { runs, jobs, leads: table(TABLES.leads) };
}

async function countRows(ask: Ask, shape: Shape, kept_id: number) {
  const count = async (name: string, sql: string) => {
    const [row] = await ask<{ n: string; ids: string; kept: string | null; greatest: string | null }>(sql, [kept_id]);
    const [n, ids] = [Number(row?.n), Number(row?.ids)];
    if (n !== ids)
      throw new AdoptError(
        'adopt_ids_not_unique',
        `${name} has ${n} rows and ${ids} different ids: rows without an id of their own can't be told apart. Give them one first`,
      );
    return { n, kept: Number(row?.kept ?? 0), greatest: Number(row?.greatest ?? 0) };
  };
  const runs = await count(TABLES.runs, SQL.runs[shape.runs.id].count);
  const jobs = await count(TABLES.jobs, SQL.jobs[shape.jobs.id].count);
  if (!Number.isSafeInteger(jobs.greatest) || !Number.isSafeInteger(runs.greatest))
    throw new AdoptError('adopt_columns', `The greatest ids of the old tables are beyond 2^53 and can't be kept apart`);
  const [lead] = shape.jobs.lead
    ? await ask<{ kept: string | null }>(
        'SELECT max(t.lead_id) FILTER (WHERE t.lead_id <= $1::bigint) AS kept FROM outbound_call_jobs t',
        [kept_id],
      )
    : [];
  return {
    runs: runs.n,
    jobs: jobs.n,
    greatest: { run_id: runs.kept, lead_id: Number(lead?.kept ?? 0) },
  };
}
