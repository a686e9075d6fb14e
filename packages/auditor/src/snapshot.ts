import pg from 'pg';

/**
 * One business at one moment: everything is read in one snapshot, so what does not agree was committed so. Read-only,
 * through the application's own login, behind the wall of that business.
 */
export interface Snapshot {
  readonly business_id: number;
  /** The moment, in microseconds of the database's clock. */
  readonly now_us: number;
  query<Row extends object>(sql: string, params?: readonly unknown[]): Promise<Row[]>;
  /** Sends a statement that answers with no rows, such as DECLARE. */
  declare(sql: string, params: readonly unknown[]): Promise<void>;
}

const INT8 = 20;
const types: pg.CustomTypesConfig = {
  // Ids, counts and microseconds, all below 2^53.
  getTypeParser: ((oid: number, format?: 'text') =>
    oid === INT8 ? Number : pg.types.getTypeParser(oid, format)) as pg.CustomTypesConfig['getTypeParser'],
};

/** A connection of one login. */
export async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    types,
    application_name: 'carillon audit',
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
    pipeline: true,
  } as pg.ClientConfig);
  // A connection that is cut off fails whatever is asked next; nobody may hear of it twice.
  client.on('error', () => {});
  await client.connect();
  return client;
}

/** Runs `work` in one REPEATABLE READ, READ ONLY transaction of one business. */
export async function inSnapshot<T>(
  client: pg.Client,
  business_id: number,
  work: (snapshot: Snapshot) => Promise<T>,
): Promise<T> {
  if (!Number.isSafeInteger(business_id) || business_id <= 0) throw new TypeError('inSnapshot: not a business id');
  try {
    const [, , , , , now] = await Promise.all([
      client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY'),
      // A plain SET: poolers in transaction mode and Citus pass it on. The id is a checked integer.
      client.query(`SET LOCAL carillon.business_id = '${business_id}'`),
      // The login's own are made for transactions of some milliseconds; sorting a million attempts takes seconds.
      client.query("SET LOCAL statement_timeout = '10min'"),
      client.query("SET LOCAL idle_in_transaction_session_timeout = '2min'"),
      client.query("SET LOCAL work_mem = '32MB'"),
      client.query<{ now_us: number }>('SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us'),
    ]);
    const result = await work({
      business_id,
      now_us: now.rows[0]?.now_us ?? Number.NaN,
      query: async <Row extends object>(sql: string, params: readonly unknown[] = []) =>
        (await client.query<Row & pg.QueryResultRow>(prepared(sql, params))).rows as Row[],
      declare: async (sql, params) => void (await client.query(sql, params as unknown[])),
    });
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  }
}

const names = new Map<string, string>();

/** Planned once for each connection: a million jobs are the same few statements, page after page. */
function prepared(text: string, values: readonly unknown[]): pg.QueryConfig {
  let name = names.get(text);
  if (!name) names.set(text, (name = `a${names.size + 1}`));
  return { name, text, values: values as unknown[] };
}
