import { BusinessId } from '@carillon/contract';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Gate, startGate } from '../../../test/support/gate.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import { type Database, discover, inBusiness, openDatabase, queryGlobal, type Tx } from '../src/db/database.ts';
import { isConnectionLost, OutcomeUnknownError, type Patience, withPatience } from '../src/db/patience.ts';
import { reserveId } from '../src/db/reserve-id.ts';
import { createFixture, createTenant, type Fixture, type Tenant } from './support/fixture.ts';

let fixture: Fixture;
let tenant: Tenant;
let gate: Gate;
let db: Database;
beforeAll(async () => {
  fixture = await createFixture();
  tenant = await createTenant(fixture, { leads: 1 });
  gate = await startGate(fixture.appUrl);
  db = openDatabase({ app_url: gate.url(fixture.appUrl), discovery_url: gate.url(fixture.discoveryUrl) });
});
afterAll(async () => {
  await db.close();
  await gate.shut();
  await fixture.close();
});
beforeEach(async () => {
  await fixture.rows("UPDATE carillon.businesses SET name = ':' WHERE business_id = $1", [tenant.business_id]);
});

const patient: Patience = { wait_ms: 30_000, isOver: () => false, receipts: true };

/** Each time that it is committed shows. */
const mark = async (tx: Tx) =>
  await tx.query(`UPDATE carillon.businesses SET name = name || 'x' WHERE business_id = $1`, [tx.business_id]);

async function marks(): Promise<string | undefined> {
  const [row] = await fixture.rows<{ name: string }>('SELECT name FROM carillon.businesses WHERE business_id = $1', [
    tenant.business_id,
  ]);
  return row?.name.slice(1);
}

const cut = () =>
  fixture.rows(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1`, [fixture.logins.app]);

describe('a database that can not be reached', () => {
  it('is an error at once for whoever has no patience', async () => {
    await gate.shut();
    try {
      await expect(inBusiness(db, tenant.business_id, mark)).rejects.toSatisfy(isConnectionLost);
    } finally {
      await gate.open();
    }
  });

  it('is waited for by all who have patience, in transactions and alone, and they go on by themselves', async () => {
    await gate.shut();
    let over = 0;
    const many = [
      ...Array.from({ length: 12 }, () => () => inBusiness(db, tenant.business_id, mark)),
      () => discover(db, 'SELECT count(*) FROM carillon.businesses'),
      () => queryGlobal(db, 'SELECT 1'),
    ].map((work) => withPatience(patient, work).finally(() => over++));
    // As long as several looks of those who wait.
    const since_ms = performance.now();
    await until(() => performance.now() - since_ms > 500, { deadline_ms: 10_000 });
    expect(over).toBe(0);
    await gate.open();
    await Promise.all(many);
    expect(await marks()).toBe('x'.repeat(12));
  });

  it('is an error after the time that may be waited, and at once when nobody waits any more', async () => {
    await gate.shut();
    try {
      const brief = withPatience({ ...patient, wait_ms: 50 }, () => inBusiness(db, tenant.business_id, mark));
      await expect(brief).rejects.toSatisfy(isConnectionLost);
      const left = withPatience({ ...patient, isOver: () => true }, () => inBusiness(db, tenant.business_id, mark));
      await expect(left).rejects.toSatisfy(isConnectionLost);
    } finally {
      await gate.open();
    }
    expect(await marks()).toBe('');
  });
});

describe('a connection that breaks before COMMIT is sent', () => {
  it('has done nothing, and the transaction is run again', async () => {
    let tries = 0;
    await withPatience(patient, () =>
      inBusiness(db, tenant.business_id, async (tx) => {
        await mark(tx);
        if (tries++ === 0) await cut();
        await tx.query('SELECT 1');
      }),
    );
    expect({ tries, marks: await marks() }).toEqual({ tries: 2, marks: 'x' });
  });

  it('fails a transaction whose work goes wrong by itself, as it is', async () => {
    const work = withPatience(patient, () => inBusiness(db, tenant.business_id, (tx) => tx.query('SELECT 1 / 0')));
    await expect(work).rejects.toMatchObject({ code: '22012' });
  });
});

describe('a connection that breaks between COMMIT and its answer', () => {
  /** Marks the business; answers with how often it was tried. */
  function counted() {
    const work = { tries: 0 };
    const run = async (tx: Tx) => {
      await mark(tx);
      return ++work.tries;
    };
    return { work, run };
  }

  it('has left its receipt where the COMMIT went through: it is not done again, and its result is given', async () => {
    const { work, run } = counted();
    const lost = gate.loseNext('COMMIT', 'done');
    expect(await withPatience(patient, () => inBusiness(db, tenant.business_id, run))).toBe(1);
    expect({ lost: lost(), ...work, marks: await marks() }).toEqual({ lost: 1, tries: 1, marks: 'x' });
  });

  it('has left none where it did not: the second try does it', async () => {
    const { work, run } = counted();
    const lost = gate.loseNext('COMMIT', 'never sent');
    expect(await withPatience(patient, () => inBusiness(db, tenant.business_id, run))).toBe(2);
    expect({ lost: lost(), ...work, marks: await marks() }).toEqual({ lost: 1, tries: 2, marks: 'x' });
  });

  it('may break again, before the receipt is looked for and when the second try commits', async () => {
    const { work, run } = counted();
    const lost = gate.loseNext('COMMIT', 'never sent');
    gate.loseNext('SET LOCAL', 'never sent');
    gate.loseNext('COMMIT', 'done');
    gate.loseNext('SET LOCAL', 'never sent');
    expect(await withPatience(patient, () => inBusiness(db, tenant.business_id, run))).toBe(2);
    expect({ lost: lost(), ...work, marks: await marks() }).toEqual({ lost: 4, tries: 2, marks: 'x' });
  });

  it('leaves nothing open once it is known that the COMMIT did not go through: what goes wrong then is told', async () => {
    const { work, run } = counted();
    gate.loseNext('COMMIT', 'never sent');
    const wrong = async (tx: Tx) => {
      if ((await run(tx)) === 2) await tx.query('SELECT 1 / 0');
    };
    const asked = withPatience(patient, () => inBusiness(db, tenant.business_id, wrong));
    await expect(asked).rejects.toMatchObject({ code: '22012' });
    expect({ ...work, marks: await marks() }).toEqual({ tries: 2, marks: '' });
  });

  it.each([
    ['is committed in the end', 'SELECT pg_advisory_unlock(42)', 1],
    [
      'is rolled back in the end',
      "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted",
      2,
    ],
  ])('is asked about behind a backend that is still committing: one that %s', async (_, ending, tries) => {
    const { work, run } = counted();
    await withClient(fixture.superuserUrl, async (holder) => {
      await holder.query('SELECT pg_advisory_lock(42)');
      const letGo = await standInCommit();
      try {
        gate.loseNext('COMMIT', 'under way');
        const asked = withPatience(patient, () => inBusiness(db, tenant.business_id, run));
        await until(() => waitsFor('advisory'), { deadline_ms: 10_000, what: 'a backend in COMMIT' });
        await until(() => waitsFor('transactionid'), { deadline_ms: 10_000, what: 'the second try behind it' });
        expect(work.tries).toBe(1);
        // The second one is not to stand there as well.
        await letGo();
        await holder.query(ending);
        expect(await asked).toBe(tries);
      } finally {
        await letGo();
      }
    });
    expect({ ...work, marks: await marks() }).toEqual({ tries, marks: 'x' });
  });

  it('keeps its receipt also when another cause makes it run again', async () => {
    const drawn: object[] = [];
    await withPatience(patient, () =>
      inBusiness(db, tenant.business_id, async (tx) => {
        drawn.push(...(await tx.query('SELECT nonce FROM carillon.receipts ORDER BY at_us DESC LIMIT 1')));
        if (drawn.length === 1) await tx.query("DO $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END $$");
      }),
    );
    expect(drawn).toEqual([drawn[0], drawn[0]]);
  });

  it('leaves open what came of it where the database is not back in time, or nobody waits any more', async () => {
    for (const brief of [{ wait_ms: 0 }, { isOver: () => true }]) {
      gate.loseNext('COMMIT', 'done');
      const work = withPatience({ ...patient, ...brief }, () => inBusiness(db, tenant.business_id, mark));
      await expect(work).rejects.toBeInstanceOf(OutcomeUnknownError);
    }
    expect(await marks()).toBe('xx');
  });

  it('leaves it open as well where the answer does not come on a connection that stands', async () => {
    const impatient = openDatabase({
      app_url: fixture.appUrl,
      discovery_url: fixture.discoveryUrl,
      query_timeout_ms: 300,
    });
    await withClient(fixture.superuserUrl, async (holder) => {
      await holder.query('SELECT pg_advisory_lock(42)');
      const letGo = await standInCommit();
      try {
        const work = withPatience(patient, () => inBusiness(impatient, tenant.business_id, mark));
        await expect(work).rejects.toBeInstanceOf(OutcomeUnknownError);
      } finally {
        await holder.query('SELECT pg_advisory_unlock(42)');
        await letGo();
        await impatient.close();
      }
    });
  });

  it('is simply run again where no receipts are left', async () => {
    gate.loseNext('COMMIT', 'done');
    await withPatience({ ...patient, receipts: false }, () => inBusiness(db, tenant.business_id, mark));
    // Which this is not made for: it shows that it was done twice.
    expect(await marks()).toBe('xx');
  });

  it('is the driver’s own error for whoever has no patience', async () => {
    gate.loseNext('COMMIT', 'done');
    await expect(inBusiness(db, tenant.business_id, mark)).rejects.toSatisfy(isConnectionLost);
  });
});

/** From now on a COMMIT of a mark waits for the advisory lock 42. Returns what ends that, for those to come. */
async function standInCommit(): Promise<() => Promise<unknown>> {
  const stand = (how: string) =>
    fixture.rows(`CREATE OR REPLACE FUNCTION public.stand() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN ${how}; RETURN NULL; END $$`);
  await stand('PERFORM pg_advisory_xact_lock(42)');
  await fixture.rows(`
    DROP TRIGGER IF EXISTS stand ON carillon.businesses;
    CREATE CONSTRAINT TRIGGER stand AFTER UPDATE ON carillon.businesses DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION public.stand()`);
  // The trigger stays: taking it away would wait for whoever stands there.
  return () => stand('NULL');
}

const waitsFor = async (locktype: string) =>
  (await fixture.rows('SELECT 1 FROM pg_locks WHERE locktype = $1 AND NOT granted', [locktype])).length > 0;

describe('a statement without a business whose answer is lost', () => {
  it('is asked again where it only asks, draws a number or wakes somebody', async () => {
    const lost = gate.loseNext('nextval', 'done');
    await withPatience(patient, () => reserveId(db, 'businesses', 'business_id', BusinessId));
    expect(lost()).toBe(1);
  });

  it('leaves open whether it was done where it changes something: no receipt tells', async () => {
    gate.loseNext('DELETE', 'done');
    const work = withPatience(patient, () => queryGlobal(db, "DELETE FROM carillon.workers WHERE worker_id = ''"));
    await expect(work).rejects.toBeInstanceOf(OutcomeUnknownError);
  });
});
