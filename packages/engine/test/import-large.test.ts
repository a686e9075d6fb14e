import { ListId } from '@carillon/contract';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { createBusiness } from '../src/business/create-business.ts';
import { openDatabase } from '../src/db/database.ts';
import { importLeads } from '../src/lead/import.ts';
import { createList } from '../src/lead/lists.ts';
import { actor, createFixture, type Fixture } from './support/fixture.ts';
import { csv } from './support/leads.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
  // A plan that suits a tiny table reads a large one whole for every line. Statistics would hide it, sooner or later.
  for (const table of ['leads', 'list_members'])
    await fixture.rows(`ALTER TABLE carillon.${table} SET (autovacuum_enabled = false)`);
});
afterAll(async () => await fixture.close());

const LINES = 100_000;
const PIECE_LINES = 500;

it('a large file is read no faster than it is written, and each of its lines costs the same', async () => {
  const db = openDatabase({ app_url: fixture.appUrl, pool_connections: 1 });
  const { business_id } = await createBusiness(db, { name: 'large' }, actor);
  const newList = async () => ListId.parse((await createList(db, business_id, { name: 'list' }, actor)).list_id);
  // On the same connection, so that plans made for tiny tables would be at hand.
  for (let n = 0; n < 8; n++)
    await importLeads(db, business_id, await newList(), csv('phone\n0501000001\n0501000002\n'), { actor });

  let read = 0;
  let written = 0;
  let waiting = 0;
  async function* source() {
    yield Buffer.from('phone,name,city\n');
    while (read < LINES) {
      const piece = Array.from({ length: PIECE_LINES }, (_, n) => `0${505_000_000 + read + n},שם ${read + n},חיפה`);
      read += PIECE_LINES;
      waiting = Math.max(waiting, read - written);
      yield Buffer.from(`${piece.join('\n')}\n`);
    }
  }
  const report = await importLeads(db, business_id, await newList(), source(), {
    actor,
    onProgress: (totals) => {
      written = totals.lines;
    },
  });
  expect(report).toMatchObject({ lines: LINES, accepted: LINES, duplicates: 0, rejected: 0 });

  // In memory at most: a batch of 5,000, and what lies in the buffers in between.
  expect(waiting).toBeGreaterThan(5_000);
  expect(waiting).toBeLessThan(15_000);

  // Closed, so that the server counts what the connection read.
  await db.close();
  const reads = await until(() => rowsRead(), { deadline_ms: 10_000, what: 'the count of rows read' });
  expect(reads).toBeLessThan(3 * LINES);
}, 120_000);

/** Rows read by index or scan from the two tables, once the foreign key's check of each line is among them. */
async function rowsRead(): Promise<number | false> {
  const [row] = await fixture.rows<{ reads: number }>(
    `SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname IN ('leads', 'list_members'))::int
          + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname IN ('leads', 'list_members'))::int AS reads`,
  );
  return row && row.reads >= LINES ? row.reads : false;
}
