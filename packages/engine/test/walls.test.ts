import { type Client, escapeIdentifier as id } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { discoveryColumns } from '../src/db/access-table.ts';
import { CATALOG_RULES } from './catalog-rules.ts';
import { SEED } from './catalog-seed.ts';
import {
  appOffences,
  discoveryOffences,
  doorOffences,
  type Offences,
  ownerOffences,
  sequenceOffences,
  type WallTable,
} from './walls.ts';
import { type AnyTable, readFunctions, readSequences, readTables, readWallTables } from './walls-catalog.ts';
import { grantOffences } from './walls-grants.ts';
import {
  discoveryMutations,
  functionMutations,
  grantMutations,
  keyMutations,
  type Mutation,
  schemaMutations,
  sequenceMutations,
  wallMutations,
  type Watcher,
} from './walls-mutations.ts';

let db: TestDatabase;
let tables: AnyTable[];
let walls: WallTable[];
let sequences: string[];
beforeAll(async () => {
  db = await createTestDatabase();
  await withClient(db.superuserUrl, async (client) => {
    await client.query(SEED);
    await client.query('ANALYZE');
    tables = await readTables(client);
    walls = await readWallTables(client);
    sequences = await readSequences(client);
  });
});
afterAll(() => db.drop());
const logins = () => db.logins;

/** As the real login, in a transaction that is rolled back. */
async function as<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  return await withClient(url, async (client) => {
    await client.query('BEGIN');
    return await work(client);
  });
}

/** Everything that `offencesOf` finds, one connection for each of `items`: once set, a setting is never unset again. */
async function all<T>(url: string, items: readonly T[], offencesOf: (client: Client, item: T) => Offences) {
  const found: string[] = [];
  for (const item of items) found.push(...(await as(url, (client) => Array.fromAsync(offencesOf(client, item)))));
  return found;
}

describe('the application', () => {
  it('reaches, in every table and by every command, the rows of its business alone, and without one nothing', async () => {
    expect(walls.length).toBeGreaterThan(15);
    expect(await all(db.appUrl, walls, appOffences)).toEqual([]);
  });

  it('takes fresh ids from the sequences and can neither look at them nor set them back', async () => {
    expect(sequences.length).toBeGreaterThan(5);
    expect(await all(db.appUrl, sequences, (client, name) => sequenceOffences(client, name, true))).toEqual([]);
  });

  it('reaches nothing of another by a function, though it runs as the owner', async () => {
    const theirs =
      "SELECT md5(string_agg(t::text, '' ORDER BY t::text)) AS rows FROM carillon.leads t WHERE business_id = 2";
    await withClient(db.superuserUrl, async (superuser) => {
      // The one function removes a whole business, if that is one that may be removed.
      expect(await readFunctions(superuser)).toEqual(['remove_canary']);
      await superuser.query('UPDATE carillon.businesses SET canary = true WHERE business_id = 2');
      const before = await superuser.query(theirs);
      await withClient(db.appUrl, async (client) => {
        const remove = 'SELECT carillon.remove_canary($1) AS removed';
        await expect(client.query(remove, [2])).rejects.toMatchObject({ code: '42704' });
        await client.query("SET carillon.business_id = '1'");
        expect((await client.query(remove, [2])).rows).toEqual([{ removed: false }]);
        await expect(client.query(remove, [1])).rejects.toMatchObject({ code: '42501' });
      });
      expect((await superuser.query(theirs)).rows).toEqual(before.rows);
      await superuser.query('UPDATE carillon.businesses SET canary = false WHERE business_id = 2');
    });
  });

  it('can do nothing to the walls', async () => {
    const { owner, discovery } = db.logins;
    expect(await all(db.appUrl, [[owner, discovery, 'postgres']], doorOffences)).toEqual([]);
  });
});

describe('discovery', () => {
  it('reads the listed columns, of both businesses, and writes nothing', async () => {
    const offences = (client: Client, table: AnyTable) =>
      discoveryOffences(client, table, discoveryColumns[table.name] ?? []);
    expect(await all(db.discoveryUrl, tables, offences)).toEqual([]);
  });

  it('takes no ids', async () => {
    expect(await all(db.discoveryUrl, sequences, (client, name) => sequenceOffences(client, name, false))).toEqual([]);
  });

  it('can do nothing to the walls', async () => {
    const { owner, app } = db.logins;
    expect(await all(db.discoveryUrl, [[owner, app, 'postgres']], doorOffences)).toEqual([]);
  });
});

describe('the owner', () => {
  it('is held by the walls like everybody else, as long as it leaves them standing', async () => {
    expect(await all(db.ownerUrl, walls, ownerOffences)).toEqual([]);
  });
});

it('nobody may do what the list of grants does not say, and everybody may do what it says', async () => {
  expect(await withClient(db.superuserUrl, (client) => grantOffences(client, db.logins))).toEqual([]);
});

/** The checks above, one table at a time and in the transaction of whoever made the hole. */
const WATCHERS: Record<Watcher, (client: Client, where: string) => Offences> = {
  async *rules(client) {
    for (const { name, find, params } of CATALOG_RULES)
      for (const { offence } of (await client.query(find, params as unknown[])).rows) yield `${name}: ${offence}`;
  },
  async *grants(client) {
    yield* await grantOffences(client, db.logins);
  },
  application: (client, where) => inRole(client, db.logins.app, () => appOffences(client, wallOf(where))),
  owner: (client, where) => inRole(client, db.logins.owner, () => ownerOffences(client, wallOf(where))),
  discovery(client, where) {
    const table = tables.find(({ name }) => name === where);
    if (!table) throw new Error(`no table ${where}`);
    const readable = discoveryColumns[where] ?? [];
    return inRole(client, db.logins.discovery, () => discoveryOffences(client, table, readable));
  },
  async *sequences(client, where) {
    const { app, discovery } = db.logins;
    yield* inRole(client, app, () => sequenceOffences(client, where, true));
    yield* inRole(client, discovery, () => sequenceOffences(client, where, false));
  },
};

function wallOf(where: string): WallTable {
  const wall = walls.find(({ name }) => name === where);
  if (!wall) throw new Error(`no wall around ${where}`);
  return wall;
}

async function* inRole(client: Client, role: string, offences: () => Offences): Offences {
  await client.query(`SET LOCAL ROLE ${id(role)}`);
  try {
    yield* offences();
  } finally {
    await client.query("SELECT set_config('carillon.business_id', '', true)");
    await client.query('RESET ROLE');
  }
}

async function isNoticed(offences: Offences): Promise<boolean> {
  for await (const _ of offences) return true;
  return false;
}

/** Which of those that should notice a hole did not. */
async function blindTo(client: Client, { name, sql, where, noticed_by }: Mutation): Promise<string[]> {
  await client.query('BEGIN');
  try {
    await client.query(sql);
    const blind: string[] = [];
    for (const watcher of noticed_by)
      if (!(await isNoticed(WATCHERS[watcher](client, where)))) blind.push(`${name}: not noticed by ${watcher}`);
    return blind;
  } catch (error) {
    return [`${name}: ${(error as Error).message}`];
  } finally {
    await client.query('ROLLBACK');
  }
}

describe('a hole in the walls is noticed', () => {
  it.each<[string, (client: Client) => Mutation[] | Promise<Mutation[]>]>([
    ['policies and row security', () => wallMutations(walls, logins())],
    ['grants of the application', () => grantMutations(tables, walls, logins())],
    ['columns and grants of discovery', () => discoveryMutations(tables, logins())],
    ['sequences', () => sequenceMutations(sequences, logins())],
    ['functions', () => functionMutations(logins())],
    ['the schema', () => schemaMutations(logins())],
    ['composite keys', (client) => keyMutations(client, walls)],
  ])('%s', { timeout: 120_000 }, async (what, mutations) => {
    const since_ms = performance.now();
    await withClient(db.superuserUrl, async (client) => {
      for (const [watcher, look] of Object.entries(WATCHERS))
        if (watcher !== 'sequences') expect(await quiet(client, look), `${watcher}, with no hole`).toEqual([]);
      const holes = await mutations(client);
      expect(holes.length).toBeGreaterThan(2);
      const blind: string[] = [];
      for (const hole of holes) blind.push(...(await blindTo(client, hole)));
      console.log(`${what}: ${holes.length} holes in ${Math.round(performance.now() - since_ms)} ms`);
      expect(blind).toEqual([]);
    });
  });
});

/** With no hole nobody cries. */
async function quiet(client: Client, look: (client: Client, where: string) => Offences): Promise<string[]> {
  await client.query('BEGIN');
  const found = await Array.fromAsync(look(client, 'leads'));
  await client.query('ROLLBACK');
  return found;
}
