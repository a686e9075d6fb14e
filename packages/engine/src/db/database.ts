import pg from 'pg';
import { type BusinessId, type CommitName, faultPoint } from '@carillon/contract';
import { type Asked, leavesReceipts, patiently } from './patience.ts';
import { drawReceipt, findReceipt, leaveReceipt } from './receipt.ts';

/** The connections lie under keys that only this file has: whoever holds a Database must come in by one of the doors. */
const APP = Symbol('app');
const DISCOVERY = Symbol('discovery');

/**
 * The database, by its doors: tenant tables are reached through `inBusiness` alone; `queryGlobal` is for the few tables
 * that belong to no business; `discover` reads a few columns across businesses through a login of its own, to find
 * work, and can write nothing.
 */
export interface Database {
  readonly [APP]: pg.Pool;
  readonly [DISCOVERY]: pg.Pool;
  /** How many connections the application's pool may have. */
  readonly connections_max: number;
  /** What they do now; `waiting`: requests that wait for one; `taken`: how often one was taken since the beginning. */
  connections(): { busy: number; idle: number; waiting: number; taken: number };
  close(): Promise<void>;
}

export interface DatabaseOptions {
  app_url: string;
  /** Defaults to the application's URL with `_discovery` appended to its user. */
  discovery_url?: string | undefined;
  /** Connections of the application's pool; two to four fill two cores. */
  pool_connections?: number;
  application_name?: string;
  /** A connection that can't be had in this time is an error. */
  connect_timeout_ms?: number;
  /** A statement whose answer doesn't come in this time gives its connection up: a vanished host must not hang it. */
  query_timeout_ms?: number;
  /** Below the lease TTL: a process stopped inside a transaction must not hold its locks longer. */
  idle_in_transaction_timeout_ms?: number;
}

/** A statement's parameters; arrays become PostgreSQL arrays. */
export type Params = readonly unknown[];

/** A transaction of one business. Nothing else can reach tenant tables. */
export interface Tx {
  readonly business_id: BusinessId;
  /** Sends a statement and waits for its rows. Statements sent without waiting in between share a round trip. */
  query<Row extends object>(sql: string, params?: Params): Promise<Row[]>;
  /**
   * Sends a write without waiting: those sent in a row share a round trip. All are waited for before COMMIT is sent;
   * the failure of one fails the transaction. `expected_rows`: any other number of touched rows is a broken guard and rolls back.
   */
  send(sql: string, params?: Params, expected_rows?: number): void;
}

/** A guard did not hold: another number of rows was touched than the locked state promised. Rolled back, never retried. */
export class GuardError extends Error {}

const INT8 = 20;
const types: pg.CustomTypesConfig = {
  // bigint columns hold ids and microseconds, all below 2^53.
  getTypeParser: ((oid: number, format?: 'text') =>
    oid === INT8 ? Number : pg.types.getTypeParser(oid, format)) as pg.CustomTypesConfig['getTypeParser'],
};

export function discoveryUrl(app_url: string): string {
  const url = new URL(app_url);
  url.username = `${url.username}_discovery`;
  return url.toString();
}

export function openDatabase(options: DatabaseOptions): Database {
  const common = {
    types,
    application_name: options.application_name ?? 'carillon',
    connectionTimeoutMillis: options.connect_timeout_ms ?? 5_000,
    keepAlive: true,
    query_timeout: options.query_timeout_ms ?? 60_000,
    idle_in_transaction_session_timeout: options.idle_in_transaction_timeout_ms ?? 20_000,
  };
  const app = new pg.Pool({
    ...common,
    connectionString: options.app_url,
    max: options.pool_connections ?? 6,
    pipeline: true,
  } as pg.PoolConfig);
  const discovery = new pg.Pool({
    ...common,
    connectionString: options.discovery_url ?? discoveryUrl(options.app_url),
    max: 2,
  });
  for (const pool of [app, discovery]) {
    // A pool without this listener takes the process down when an idle connection breaks. The broken connection leaves
    // the pool; whoever needs one next gets a fresh one, or the error.
    pool.on('error', () => {});
    // The same for a connection itself: the pool stops listening before whoever waits for it can begin to, and what cuts
    // it off may stand in the very packet that makes it ready. The next statement on it fails.
    pool.on('connect', (client) => void client.on('error', () => {}));
  }
  let taken = 0;
  app.on('acquire', () => void taken++);
  return {
    [APP]: app,
    [DISCOVERY]: discovery,
    connections_max: app.options.max,
    connections: () => ({
      busy: app.totalCount - app.idleCount,
      idle: app.idleCount,
      waiting: app.waitingCount,
      taken,
    }),
    async close() {
      await Promise.all([app.end(), discovery.end()]);
    },
  };
}

const STALE_PLAN = '0A000';

/** Each statement is parsed and planned once for each connection: at small batches planning was most of its cost. */
function prepared(text: string, values: Params): pg.QueryConfig {
  let name = statementNames.get(text);
  if (!name) statementNames.set(text, (name = `s${statementNames.size + 1}`));
  return { name, text, values: values as unknown[] };
}
const statementNames = new Map<string, string>();

/** Serialisation failure, deadlock; and a plan that a migration has outdated, for which the connection is given up. */
const RETRYABLE = new Set(['40001', '40P01', STALE_PLAN]);
const RETRIES = 5;

/** How often a transaction was run again after a serialisation failure, a deadlock or a stale plan, since the process began. */
export const transactionRetries = { count: 0 };

/** How often a guard did not hold, since the process began. Each is a fault of ours. */
export const guardErrors = { count: 0 };

/**
 * Runs `work` in one transaction of `business_id`. A serialisation failure or a deadlock rolled everything back, so
 * `work` is run again, up to five times; it must therefore do nothing but database work.
 *
 * Throws what `work` throws, after a rollback, and the driver's error when the connection breaks. A break during COMMIT
 * leaves the outcome open: callers are written so that either way the rows tell. Who has patience waits for a database
 * that is away, and is given the result of what was committed once, by its receipt (see `withPatience`); or
 * OutcomeUnknownError, where the database is away for longer than that.
 *
 * `name`: a transaction on the way of a lead, so that tests can end the process on either side of its commit.
 */
export function inBusiness<T>(db: Database, business_id: BusinessId, work: Work<T>): Promise<T>;
export function inBusiness<T>(db: Database, business_id: BusinessId, name: CommitName, work: Work<T>): Promise<T>;
export async function inBusiness<T>(
  db: Database,
  business_id: BusinessId,
  ...given: [Work<T>] | [CommitName, Work<T>]
): Promise<T> {
  const [name, work] = given.length === 1 ? [null, given[0]] : given;
  const receipt = leavesReceipts() ? drawReceipt() : null;
  const asked: AskedOnce<T> = { decisive: false, unknown: false, receipt };
  for (let tries = 1; ; tries++) {
    try {
      const result = await patiently(db[APP], asked, () => once(db, business_id, name, work, asked));
      if (name !== null) faultPoint(name, 'committed');
      return result;
    } catch (error) {
      if (tries > RETRIES || !RETRYABLE.has(sqlState(error) ?? '')) throw error;
      transactionRetries.count++;
    }
  }
}

type Work<T> = (tx: Tx) => Promise<T>;

interface AskedOnce<T> extends Asked {
  /** Of the last try whose work was done: what it answers, if it was committed. */
  result?: T;
}

async function once<T>(
  db: Database,
  business_id: BusinessId,
  name: CommitName | null,
  work: Work<T>,
  asked: AskedOnce<T>,
): Promise<T> {
  if (!Number.isSafeInteger(business_id) || business_id <= 0) throw new TypeError('inBusiness: not a business id');
  const client = await db[APP].connect();
  let broken: Error | undefined;
  const onError = (error: Error) => (broken = error);
  client.on('error', onError);
  const sent: Promise<unknown>[] = [];
  // The first failure of a statement sent without waiting. Those behind it only say that the transaction is aborted.
  let failure: unknown;
  const fail = (error: unknown) => (failure ??= error);
  const launch = <R extends object>(sql: string, params?: Params) => {
    const promise = client.query<R & pg.QueryResultRow>(params ? prepared(sql, params) : sql);
    promise.catch(fail);
    return promise;
  };
  try {
    sent.push(launch('BEGIN'));
    // A plain SET: poolers in transaction mode and Citus pass it on. The id is a checked integer.
    sent.push(launch(`SET LOCAL carillon.business_id = '${business_id}'`));
    const tx: Tx = {
      business_id,
      query: async <Row extends object>(sql: string, params?: Params) => (await launch<Row>(sql, params)).rows as Row[],
      send(sql, params, expected_rows) {
        const write = launch(sql, params);
        if (expected_rows === undefined) sent.push(write);
        else sent.push(write.then(({ rowCount }) => guard(sql, rowCount, expected_rows)).catch(fail));
      },
    };
    if (asked.receipt && !asked.unknown) leaveReceipt(tx, asked.receipt);
    if (asked.receipt && asked.unknown) {
      if (await findReceipt(tx, asked.receipt)) {
        // There is nothing left to do. The connection takes this transaction with it, so that no answer is waited for.
        client.release(true);
        return asked.result as T;
      }
      asked.unknown = false;
    }
    const result = (asked.result = await work(tx));
    await Promise.allSettled(sent);
    if (failure) throw failure;
    if (name !== null) faultPoint(name, 'before_commit');
    asked.decisive = true;
    const end = await launch('COMMIT');
    // COMMIT of an aborted transaction answers ROLLBACK without an error.
    if (end.command !== 'COMMIT') throw failure ?? new Error('the transaction was rolled back');
    client.release();
    return result;
  } catch (error) {
    await Promise.allSettled(sent);
    const rolledBack = broken
      ? false
      : await client.query('ROLLBACK').then(
          () => true,
          () => false,
        );
    client.release(!rolledBack || sqlState(failure ?? error) === STALE_PLAN);
    // The first failure, not the last: those behind it only say that the transaction is aborted.
    throw failure ?? error;
  } finally {
    client.off('error', onError);
  }
}

function guard(sql: string, touched: number | null, expected: number): void {
  if (touched === expected) return;
  guardErrors.count++;
  throw new GuardError(`${touched} rows touched, ${expected} expected: ${sql.slice(0, 60)}`);
}

/** Reads across businesses, through the discovery login: a few columns, no writes. */
export async function discover<Row extends object>(db: Database, sql: string, params: Params = []): Promise<Row[]> {
  // It can write nothing, so that nothing it sends decides anything.
  const asked: Asked = { decisive: false, unknown: false, receipt: null };
  return await patiently(db[DISCOVERY], asked, () => alone<Row>(db[DISCOVERY], single(sql, params)));
}

/** A statement alone that is a SELECT reads, draws a number, or wakes somebody: twice is like once. */
const TWICE_IS_ONCE = /^\s*SELECT\b/i;

/**
 * One statement, in no business, through the application's login: for the tables that belong to none, and for what the
 * server is asked about itself. Row security answers it with an error where it names a tenant table.
 */
export async function queryGlobal<Row extends object>(db: Database, sql: string, params: Params = []): Promise<Row[]> {
  const asked: Asked = { decisive: false, unknown: false, receipt: null };
  return await patiently(db[APP], asked, () =>
    alone<Row>(db[APP], single(sql, params), () => {
      // It is its own commit, and has no business that could keep a receipt.
      asked.decisive = !TWICE_IS_ONCE.test(sql);
    }),
  );
}

async function alone<Row extends object>(pool: pg.Pool, statement: pg.QueryConfig, onSend = () => {}): Promise<Row[]> {
  const client = await pool.connect();
  onSend();
  try {
    const { rows } = await client.query<Row & pg.QueryResultRow>(statement);
    client.release();
    return rows;
  } catch (error) {
    client.release(true);
    throw error;
  }
}

/** The extended protocol takes one statement: nobody can put a transaction with a business of its choice in here. */
function single(text: string, params: Params): pg.QueryConfig & { queryMode: 'extended' } {
  return { text, values: params as unknown[], queryMode: 'extended' };
}

/** Resolves when the server answers; throws what stands in the way. */
export async function ping(db: Database): Promise<void> {
  await queryGlobal(db, 'SELECT 1');
}

/** The five-character SQLSTATE of a server's error, or undefined. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined;
}

/** The constraint that a server's error names, or undefined. */
export function violatedConstraint(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.constraint : undefined;
}

/** The database's clock, in microseconds since 1970. Read after the locks, so that waiting for them is not counted. */
export async function databaseNow(tx: Tx): Promise<number> {
  const [row] = await tx.query<{ now_us: number }>(
    'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us',
  );
  if (!row) throw new Error('the database did not tell the time');
  return row.now_us;
}
