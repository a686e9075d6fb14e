import type { Client, DatabaseError, QueryResultRow } from 'pg';
import type { TablePrivilege } from '../src/db/access-table.ts';

/**
 * The wall between two businesses, tried from one side: every table × command × setting, made from the catalog, so that
 * a new table is tried by itself. Needs the rows of catalog-seed.ts. The tests of the walls want no offence; the tests of
 * these functions tear holes, and each must give one.
 */

export interface WallTable {
  name: string;
  /** Those that can be inserted: not generated. */
  columns: string[];
  /** The seed's row of each business, as JSON. */
  ours: string;
  theirs: string;
  /** Theirs with our business is a duplicate of ours: they differ in nothing but the business. */
  alike: boolean;
  foreign_keys: { name: string; row: string }[];
  /** What its application may do, by the list of grants. */
  may: readonly TablePrivilege[];
  /** The columns that it may update where it may not update all. */
  updates: readonly string[];
}

const [OURS, THEIRS] = ['1', '2'];

/** An unset setting and one that is no number: an error is the only answer that tells nothing. */
const CLOSED = ['42704', '22P02'];
const DENIED = '42501';

/** What is wrong, one line for each hole. Whoever needs only the first asks no further. */
export type Offences = AsyncGenerator<string, void>;

interface Answer {
  rows: QueryResultRow[];
  count: number;
  code: string;
  message: string;
  constraint: string | undefined;
  /** In which a server quotes the row that was refused. Row security keeps it out. */
  detail: string | undefined;
}

/** One statement, undone at once. Inside a transaction. */
export async function probe(client: Client, sql: string, params: unknown[] = []): Promise<Answer> {
  await client.query('SAVEPOINT probe');
  try {
    const { rows, rowCount } = await client.query(sql, params);
    return {
      rows,
      count: rowCount ?? 0,
      code: '',
      message: `${rowCount} rows`,
      constraint: undefined,
      detail: undefined,
    };
  } catch (error) {
    const { code = '', message, constraint, detail } = error as DatabaseError;
    return { rows: [], count: 0, code, message: `${code} ${message}`, constraint, detail };
  } finally {
    await client.query('ROLLBACK TO probe');
  }
}

/** Undefined when it is as it should be. */
type Judgement = (answer: Answer) => boolean;

interface Command {
  name: string;
  sql: string;
  params?: unknown[];
  /** LOCK: an UPDATE of any column is enough. */
  needs: (TablePrivilege | 'LOCK')[];
  /** What may come of it in our business, where the privileges are there. */
  right: Judgement;
  /** The answer that it always gets, whatever the setting. */
  always?: string;
}

const nothing: Judgement = ({ code, count }) => code === '' && count === 0;
const refusedByWall: Judgement = ({ code, message }) => code === DENIED && message.includes('row-level security');

function commandsOn(table: WallTable): Command[] {
  const name = `carillon.${table.name}`;
  const columns = table.columns.join(', ');
  const insert = `INSERT INTO ${name} (${columns}) SELECT ${columns} FROM jsonb_populate_record(NULL::${name}, $1)`;
  const asOurs = JSON.stringify({ ...JSON.parse(table.theirs), business_id: 1 });
  const ourRows: Judgement = ({ rows }) => rows.length > 0 && rows.every((row) => String(row.business_id) === OURS);
  // The rows that theirs refers to are not ours; a duplicate would tell that they are there.
  const noDuplicate: Judgement = ({ code, count }) => count === 1 || code === '23503' || (table.alike && code !== '');
  return [
    { name: 'SELECT', sql: `SELECT business_id FROM ${name}`, needs: ['SELECT'], right: ourRows },
    {
      name: 'SELECT theirs',
      sql: `SELECT FROM ${name} WHERE business_id = ${THEIRS}`,
      needs: ['SELECT'],
      right: nothing,
    },
    {
      name: 'an error on their row',
      sql: `SELECT FROM ${name} WHERE 1 / (business_id - ${THEIRS}) IS NULL`,
      needs: ['SELECT'],
      right: nothing,
    },
    {
      name: 'SELECT … FOR UPDATE theirs',
      sql: `SELECT FROM ${name} WHERE business_id = ${THEIRS} FOR UPDATE`,
      needs: ['SELECT', 'LOCK'],
      right: nothing,
    },
    {
      name: 'SELECT … FOR KEY SHARE',
      sql: `SELECT business_id FROM ${name} FOR KEY SHARE`,
      needs: ['SELECT', 'LOCK'],
      right: ourRows,
    },
    { name: 'INSERT as theirs', sql: insert, params: [table.theirs], needs: ['INSERT'], right: refusedByWall },
    {
      name: 'INSERT as theirs ON CONFLICT DO NOTHING',
      sql: `${insert} ON CONFLICT DO NOTHING`,
      params: [table.theirs],
      needs: ['INSERT'],
      right: refusedByWall,
    },
    { name: 'INSERT with their key', sql: insert, params: [asOurs], needs: ['INSERT'], right: noDuplicate },
    {
      name: 'INSERT with their key ON CONFLICT DO NOTHING',
      sql: `${insert} ON CONFLICT DO NOTHING RETURNING 1`,
      params: [asOurs],
      needs: ['INSERT', 'SELECT'],
      right: (answer) => noDuplicate(answer) || table.alike,
    },
    {
      name: 'INSERT ours again',
      sql: insert,
      params: [table.ours],
      needs: ['INSERT'],
      right: ({ code, detail }) => code === '23505' && detail === undefined,
    },
    {
      name: 'UPDATE theirs',
      sql: `UPDATE ${name} SET business_id = business_id WHERE business_id = ${THEIRS}`,
      needs: ['UPDATE', 'SELECT'],
      right: nothing,
    },
    {
      name: 'UPDATE ours',
      sql: `UPDATE ${name} SET business_id = business_id`,
      needs: ['UPDATE', 'SELECT'],
      right: ({ code, count }) => code === '' && count > 0,
    },
    {
      name: 'UPDATE ours to theirs',
      sql: `UPDATE ${name} SET business_id = ${THEIRS}`,
      needs: ['UPDATE'],
      right: refusedByWall,
    },
    {
      name: 'DELETE theirs',
      sql: `DELETE FROM ${name} WHERE business_id = ${THEIRS}`,
      needs: ['DELETE', 'SELECT'],
      right: nothing,
    },
    {
      name: 'DELETE ours',
      sql: `DELETE FROM ${name}`,
      needs: ['DELETE'],
      // Others of ours may refer to it.
      right: ({ code, count }) => count > 0 || code === '23503',
    },
    {
      name: 'MERGE into theirs',
      sql: `MERGE INTO ${name} t USING (VALUES (${THEIRS})) v (id) ON t.business_id = v.id WHEN MATCHED THEN DELETE`,
      needs: ['DELETE', 'SELECT'],
      right: nothing,
    },
    {
      name: 'COPY TO',
      sql: `COPY ${name} TO STDOUT`,
      needs: ['SELECT'],
      right: ({ code, count }) => code === '' && count === 1,
    },
    { name: 'COPY FROM', sql: `COPY ${name} FROM STDIN`, needs: ['INSERT'], right: () => false, always: '0A000' },
    { name: 'TRUNCATE', sql: `TRUNCATE ${name}`, needs: [], right: () => false, always: DENIED },
    {
      name: 'its statistics',
      sql: `SELECT tablename FROM pg_stats WHERE schemaname = 'carillon' AND tablename = $1
            UNION ALL SELECT tablename FROM pg_stats_ext WHERE schemaname = 'carillon' AND tablename = $1`,
      params: [table.name],
      needs: [],
      right: nothing,
    },
    ...commandsOnColumns(table),
  ];
}

/** Where the application may update some columns only: those, of its own rows, and no other. */
function commandsOnColumns({ name, columns, may, updates }: WallTable): Command[] {
  if (may.includes('UPDATE')) return [];
  return columns.flatMap((column): Command[] => {
    const sql = `UPDATE carillon.${name} SET ${column} = ${column}`;
    const allowed = updates.includes(column);
    const needs: Command['needs'] = allowed ? ['LOCK', 'SELECT'] : ['UPDATE'];
    return [
      { name: `UPDATE ${column}`, sql, needs, right: ({ code, count }) => code === '' && count === 1 },
      { name: `UPDATE ${column} of theirs`, sql: `${sql} WHERE business_id = ${THEIRS}`, needs, right: nothing },
    ];
  });
}

const SETTINGS: Record<string, string | undefined> = {
  'no business': undefined,
  'an empty setting': '',
  'a garbage setting': '1 OR true',
  'two businesses': '1,2',
  'our business': OURS,
};

/** `client` is the application, inside a transaction, and has not set a business yet. */
export async function* appOffences(client: Client, table: WallTable): Offences {
  for (const [setting, value] of Object.entries(SETTINGS)) {
    if (value !== undefined) await client.query("SELECT set_config('carillon.business_id', $1, true)", [value]);
    for (const command of commandsOn(table)) {
      const answer = await probe(client, command.sql, command.params);
      if (isRight(command, table, value === OURS, answer)) continue;
      yield `${table.name}: ${command.name} with ${setting}: ${answer.message}`;
    }
    if (value === OURS) yield* reachOffences(client, table);
  }
}

function isRight(command: Command, table: WallTable, ours: boolean, answer: Answer): boolean {
  const may = (privilege: TablePrivilege | 'LOCK') =>
    privilege === 'LOCK' ? table.may.includes('UPDATE') || table.updates.length > 0 : table.may.includes(privilege);
  const denied = !command.needs.every(may);
  // The planner may look at the setting before anybody asks for privileges.
  if (denied) return (answer.code === DENIED && !refusedByWall(answer)) || (!ours && CLOSED.includes(answer.code));
  if (command.always !== undefined) return answer.code === command.always;
  // What the server keeps about the table is hidden in any case.
  if (command.needs.length === 0) return command.right(answer);
  return ours ? command.right(answer) : CLOSED.includes(answer.code);
}

/** A row of ours that refers to a row of theirs. Foreign keys do not ask row security, so each must ask for the business. */
async function* reachOffences(client: Client, table: WallTable): Offences {
  if (!table.may.includes('INSERT')) return;
  const name = `carillon.${table.name}`;
  const columns = table.columns.join(', ');
  for (const key of table.foreign_keys) {
    const answer = await probe(
      client,
      `INSERT INTO ${name} (${columns}) SELECT ${columns} FROM jsonb_populate_record(NULL::${name}, $1)`,
      [key.row],
    );
    if (answer.code !== '23503' || answer.constraint !== key.name)
      yield `${table.name}: reaching through ${key.name}: ${answer.message}`;
  }
}

/** `client` is the owner: FORCE holds it too, so that a mistake made with its login is not everybody's. */
export async function* ownerOffences(client: Client, table: WallTable): Offences {
  const name = `carillon.${table.name}`;
  const unset = await probe(client, `SELECT FROM ${name}`);
  await client.query("SELECT set_config('carillon.business_id', $1, true)", [OURS]);
  const set = await probe(client, `SELECT business_id FROM ${name}`);
  if (!CLOSED.includes(unset.code)) yield `${table.name}: the owner without a business: ${unset.message}`;
  if (set.rows.length === 0 || set.rows.some((row) => String(row.business_id) !== OURS))
    yield `${table.name}: the owner in a business sees others: ${set.message}`;
}

/** `client` is discovery, inside a transaction. `readable`: the columns that it may read. */
export async function* discoveryOffences(
  client: Client,
  table: { name: string; columns: string[] },
  readable: readonly string[],
): Offences {
  const name = `carillon.${table.name}`;
  const walled = table.columns.includes('business_id');
  // In a business, so that nothing but the missing privilege is in the way.
  await client.query("SELECT set_config('carillon.business_id', $1, true)", [OURS]);
  for (const column of table.columns) {
    const { code, count, message } = await probe(client, `SELECT ${column} FROM ${name}`);
    const right = readable.includes(column) ? code === '' && (!walled || count === 2) : code === DENIED;
    if (!right) yield `${table.name}.${column}: discovery reading it: ${message}`;
  }
  const first = readable[0] ?? table.columns[0] ?? '';
  for (const sql of [
    `INSERT INTO ${name} DEFAULT VALUES`,
    `UPDATE ${name} SET ${first} = DEFAULT`,
    `DELETE FROM ${name}`,
    `SELECT ${first} FROM ${name} FOR UPDATE`,
    `COPY ${name} FROM STDIN`,
    `TRUNCATE ${name}`,
    `LOCK TABLE ${name} IN ROW EXCLUSIVE MODE`,
  ]) {
    const answer = await probe(client, sql);
    // Stopped by the wall is stopped too late.
    if (answer.code !== DENIED || refusedByWall(answer)) yield `discovery: ${sql}: ${answer.message}`;
  }
}

/** Sequences give the application fresh ids and nothing else: not the last one, no way back. Discovery gets nothing. */
export async function* sequenceOffences(client: Client, sequence: string, may_use: boolean): Offences {
  for (const [sql, allowed] of [
    [`SELECT nextval('carillon.${sequence}')`, may_use],
    [`SELECT last_value FROM carillon.${sequence}`, false],
    [`SELECT setval('carillon.${sequence}', 1)`, false],
    [`ALTER SEQUENCE carillon.${sequence} RESTART`, false],
  ] as const) {
    const { code, message } = await probe(client, sql);
    if (allowed ? code !== '' : code !== DENIED) yield `${sql}: ${message}`;
  }
}

/** What a login must not be able to do to the walls themselves. `client` must be logged in as it: SET ROLE asks the session. */
export async function* doorOffences(client: Client, others: readonly string[]): Offences {
  for (const sql of [
    'CREATE TABLE carillon.mine (business_id bigint)',
    'CREATE VIEW carillon.mine AS SELECT 1',
    'CREATE FUNCTION carillon.mine() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$',
    'ALTER TABLE carillon.leads DISABLE ROW LEVEL SECURITY',
    'ALTER TABLE carillon.leads NO FORCE ROW LEVEL SECURITY',
    'CREATE POLICY mine ON carillon.leads USING (true)',
    'DROP POLICY business_wall ON carillon.leads',
    'CREATE TRIGGER mine BEFORE INSERT ON carillon.leads EXECUTE FUNCTION suppress_redundant_updates_trigger()',
    'CREATE FUNCTION pg_temp.mine(bigint) RETURNS bool LANGUAGE sql LEAKPROOF AS $$ SELECT true $$',
    'CREATE ROLE mine',
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SET session_replication_role = 'replica'",
    'SELECT * FROM pg_authid',
    ...others.flatMap((role) => [
      `SET ROLE ${role}`,
      `SET SESSION AUTHORIZATION ${role}`,
      `GRANT ${role} TO CURRENT_USER`,
    ]),
  ]) {
    const { code, message } = await probe(client, sql);
    if (code !== DENIED) yield `${sql}: ${message}`;
  }
  // GRANT without the right to it is a warning and no error, so what came of it is looked at.
  await client.query('SAVEPOINT grants');
  await client
    .query('GRANT ALL ON ALL TABLES IN SCHEMA carillon TO PUBLIC')
    .catch(() => client.query('ROLLBACK TO grants'));
  const { count } = await probe(
    client,
    "SELECT FROM pg_class, aclexplode(relacl) WHERE relnamespace = 'carillon'::regnamespace AND grantee = 0",
  );
  await client.query('ROLLBACK TO grants');
  if (count > 0) yield 'GRANT ALL ON ALL TABLES: worked';
  // Switched off, row security is an error instead of a filter.
  await client.query("SELECT set_config('carillon.business_id', '1', true), set_config('row_security', 'off', true)");
  const off = await probe(client, 'SELECT * FROM carillon.businesses');
  await client.query("SELECT set_config('row_security', 'on', true)");
  if (off.code !== DENIED) yield `SET row_security = off: ${off.message}`;
}
