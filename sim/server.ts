import { randomBytes } from 'node:crypto';
import { discoveryUrl, migrate } from '@carillon/engine';
import pg, { escapeIdentifier, escapeLiteral } from 'pg';
import type { Server } from './database.ts';

/** A database of the simulation's own on a real server, whose statements are told the time by the simulation. */
export interface SimulatedServer extends Server {
  /** Sees everything, and the simulation's time as well. */
  superuser: pg.Client;
  appUrl: string;
  /** Everything as after the migrations, to the last sequence: what a seed does depends on nothing before it. */
  reset(): Promise<void>;
  close(): Promise<void>;
}

const INT8 = 20;
const types: pg.CustomTypesConfig = {
  // As the engine has it: ids and microseconds, all below 2^53.
  getTypeParser: ((oid: number, format?: 'text') =>
    oid === INT8 ? Number : pg.types.getTypeParser(oid, format)) as pg.CustomTypesConfig['getTypeParser'],
};

/**
 * PostgreSQL looks functions up in pg_catalog first only where the search path does not name it. So `now()` and its kin
 * are these in every shipped statement.
 */
const CLOCK = ['now', 'clock_timestamp', 'statement_timestamp', 'transaction_timestamp'].map(
  (name) => `CREATE FUNCTION simulated.${name}() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT 'epoch'::timestamptz
      + coalesce(current_setting('simulated.now_us', true), '2000000000000000')::bigint * interval '1 microsecond' $$`,
);
const PATH = 'simulated, pg_catalog, carillon';

export async function openServer(superuserUrl: string): Promise<SimulatedServer> {
  const name = `simulation_${randomBytes(6).toString('hex')}`;
  const password = randomBytes(12).toString('hex');
  const [owner, app] = [`${name}_owner`, `${name}_app`];
  const url = (user: string | null) => {
    const address = new URL(superuserUrl);
    if (user !== null) Object.assign(address, { username: user, password });
    address.pathname = `/${name}`;
    return address.toString();
  };

  const admin = await connect(superuserUrl);
  await admin.query(`CREATE ROLE ${escapeIdentifier(owner)} LOGIN CREATEROLE PASSWORD ${escapeLiteral(password)}`);
  await admin.query(`CREATE DATABASE ${escapeIdentifier(name)} OWNER ${escapeIdentifier(owner)}`);
  await admin.query(`ALTER DATABASE ${escapeIdentifier(name)} SET search_path = ${PATH}`);
  const superuser = await connect(url(null));
  await superuser.query(`CREATE SCHEMA simulated; GRANT USAGE ON SCHEMA simulated TO PUBLIC; ${CLOCK.join(';')}`);
  await migrate({ ownerUrl: url(owner), appUrl: url(app) });
  await simulateDefaults(superuser);

  const seeded = await superuser.query<{ name: string }>(
    `SELECT format('%I.%I', schemaname, relname) AS name FROM pg_stat_user_tables
     WHERE schemaname = 'carillon' AND relname NOT IN ('installation_state', 'schema_migrations') ORDER BY 1`,
  );
  const everything = seeded.rows.map((table) => table.name).join(', ');
  const clients = [superuser, await connect(url(app)), await connect(discoveryUrl(url(app)))] as const;
  for (const client of clients) await client.query(`SET search_path = ${PATH}; SET synchronous_commit = off`);
  const { rows: state } = await superuser.query('SELECT * FROM carillon.installation_state');

  return {
    superuser,
    app: clients[1],
    discovery: clients[2],
    appUrl: url(app),
    async reset() {
      for (const client of clients) await client.query('ROLLBACK');
      await superuser.query(`TRUNCATE ${everything} RESTART IDENTITY CASCADE`);
      const [row] = state;
      const columns = Object.keys(row);
      await superuser.query(
        `UPDATE carillon.installation_state SET ${columns.map((column, i) => `${escapeIdentifier(column)} = $${i + 1}`).join(', ')}`,
        Object.values(row),
      );
    },
    async close() {
      for (const client of clients) await client.end();
      await admin.query(`DROP DATABASE ${escapeIdentifier(name)} WITH (FORCE)`);
      for (const role of [`${app}_discovery`, app, owner]) await admin.query(`DROP ROLE ${escapeIdentifier(role)}`);
      await admin.end();
    },
  };
}

async function connect(connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString, types, pipeline: true } as pg.ClientConfig);
  await client.connect();
  return client;
}

/** The migrations look nothing up by a path: the defaults that tell the time are given the simulation's afterwards. */
async function simulateDefaults(superuser: pg.Client): Promise<void> {
  await superuser.query(`DO $$ DECLARE place record; BEGIN
    FOR place IN
      SELECT c.relname, a.attname, pg_get_expr(d.adbin, d.adrelid) AS clock
      FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid
      JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
      WHERE c.relnamespace = 'carillon'::regnamespace
        AND pg_get_expr(d.adbin, d.adrelid) ~ '\\m(now|clock_timestamp|statement_timestamp|CURRENT_TIMESTAMP|LOCALTIME)\\M'
    LOOP
      IF place.clock <> 'pg_catalog.now()' THEN RAISE 'cannot simulate the default %', place.clock; END IF;
      EXECUTE format('ALTER TABLE carillon.%I ALTER %I SET DEFAULT simulated.now()', place.relname, place.attname);
    END LOOP;
  END $$`);
}
