import { randomBytes } from 'node:crypto';
import { createCarrierDrivers } from '@carillon/carriers';
import { type Database, defaultLimits, openDatabase, systemClock, withPatience } from '@carillon/engine';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { type Gate, startGate } from '../../../test/support/gate.ts';
import { checkReadiness } from '../src/index.ts';

let database: TestDatabase;
let gate: Gate;
let db: Database;
beforeAll(async () => {
  database = await createTestDatabase();
  gate = await startGate(database.appUrl);
  db = openDatabase({ app_url: gate.url(database.appUrl), discovery_url: database.discoveryUrl });
});
afterAll(async () => {
  await db.close();
  await gate.shut();
  await database.drop();
});

it('a canary is made once though the answer to its COMMIT is lost, for whoever asks as one who reads', async () => {
  // There is no other business here: nothing is committed before the canaries.
  const lost = gate.loseNext('COMMIT', 'done');
  const patience = { wait_ms: 15_000, isOver: () => false, receipts: false };
  const { points } = await withPatience(patience, () =>
    checkReadiness({
      db,
      app_url: database.appUrl,
      drivers: createCarrierDrivers(),
      secret: randomBytes(32),
      limits: defaultLimits,
      clock: systemClock,
      // Nobody works here, which the points that need a worker find out by then.
      timeout_ms: 2_000,
      ask_carrier: false,
    }),
  );
  expect(lost()).toBe(1);
  expect(points.find(({ point }) => point === 'constraint')).toMatchObject({ ok: true });
});
