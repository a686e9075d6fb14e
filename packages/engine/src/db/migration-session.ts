import { setTimeout as pause } from 'node:timers/promises';
import { Client, DatabaseError, type QueryResultRow } from 'pg';
import { MigrateError } from './migrate-error.ts';

/** PostgreSQL 15: the oldest that is tested. */
const OLDEST_SERVER = 150_000;
// The eight letters of the word, read as one 64-bit number.
const LOCK_KEY = Buffer.from('carillon').readBigInt64BE().toString();
const LOCK_RETRY_MS = 200;
const LOCK_REPORT_MS = 2_000;

/** The owner's one connection, on which everything of a migration happens. */
export interface MigrationSession {
  /** Called before each statement that is sent, and awaited: the fault tests stop here. */
  run<Row extends QueryResultRow>(sql: string, params?: readonly unknown[]): Promise<Row[]>;
  readonly database: string;
  end(): Promise<void>;
}

/** Connects as owner, on a session that no setting of the role or the database can surprise. */
export async function openSession(
  url: string,
  onStatement?: (sql: string) => void | Promise<void>,
): Promise<MigrationSession> {
  const client = await connect(url);
  const session: MigrationSession = {
    database: client.database ?? '',
    async run<Row extends QueryResultRow>(sql: string, params?: readonly unknown[]) {
      await onStatement?.(sql);
      return (await client.query<Row>(sql, params as unknown[] | undefined)).rows;
    },
    end: () => client.end(),
  };
  try {
    await checkServer(client);
    return session;
  } catch (error) {
    await client.end();
    throw error;
  }
}

async function connect(url: string): Promise<Client> {
  try {
    const client = new Client({
      connectionString: url,
      application_name: 'carillon migrate',
      connectionTimeoutMillis: 10_000,
      keepAlive: true,
    });
    // A connection that breaks between two statements shows in the next one; without a listener, there before it is
    // ready, it would end the process.
    client.on('error', () => {});
    await client.connect();
    return client;
  } catch (error) {
    const text =
      error instanceof AggregateError ? error.errors.map(String).join('; ') : String((error as Error).message);
    const refused = error instanceof DatabaseError && !error.code?.startsWith('57P') && error.code !== '53300';
    throw new MigrateError(
      refused ? 'login_refused' : 'database_unreachable',
      refused ? `The server refuses the owner's login: ${text}` : `The database can't be reached: ${text}`,
      error,
    );
  }
}

async function checkServer(client: Client): Promise<void> {
  const { rows } = await client.query<{ version: number; shown: string; read_only: boolean }>(
    `SELECT current_setting('server_version_num')::integer AS version, current_setting('server_version') AS shown,
            pg_is_in_recovery() AS read_only`,
  );
  const server = rows[0];
  if (!server || server.version < OLDEST_SERVER)
    throw new MigrateError('server_too_old', `The server is PostgreSQL ${server?.shown}; Carillon needs 15 or later`);
  if (server.read_only)
    throw new MigrateError('server_read_only', 'The server is a read-only standby; migrate on the primary');
  // A stalled migration must not hold its locks for ever, and one that can't get a lock says so rather than make every
  // claim queue up behind it.
  await client.query(
    `SET search_path = carillon; SET statement_timeout = 0; SET lock_timeout = '60s';
     SET idle_in_transaction_session_timeout = '5min'; SET client_min_messages = warning; SET timezone = 'UTC'`,
  );
}

/**
 * Takes the lock that lets one migration run at a time in a database. It belongs to the session that also does the
 * work, so it ends with that session and not before its last statement: after a kill -9 the next migration waits for a
 * statement that the server is still executing. It asks again and again instead of waiting in pg_advisory_lock, whose
 * open snapshot CREATE INDEX CONCURRENTLY would wait for, for ever. Needs a session: no pooler in transaction mode.
 *
 * `onWaiting` is called with the milliseconds waited, after 2 s and every 2 s. Throws `migration_busy` after `wait_ms`.
 */
export async function lockMigrations(
  session: MigrationSession,
  wait_ms: number,
  onWaiting: (waited_ms: number) => void,
): Promise<void> {
  for (let waited_ms = 0; ; waited_ms += LOCK_RETRY_MS) {
    const [row] = await session.run<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [LOCK_KEY]);
    if (row?.locked) return;
    if (waited_ms >= wait_ms)
      throw new MigrateError(
        'migration_busy',
        `Another migration of this database is still running after ${waited_ms} ms`,
      );
    if (waited_ms > 0 && waited_ms % LOCK_REPORT_MS === 0) onWaiting(waited_ms);
    await pause(LOCK_RETRY_MS);
  }
}

/** Rolls back on any error and passes the error on, also where the connection is gone. */
export async function inTransaction<T>(session: MigrationSession, work: () => Promise<T>): Promise<T> {
  await session.run('BEGIN');
  try {
    const result = await work();
    await session.run('COMMIT');
    return result;
  } catch (error) {
    await session.run('ROLLBACK').catch(() => {});
    throw error;
  }
}
