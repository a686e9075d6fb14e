import path from 'node:path';
import { migrate, type MigrateOptions } from '../src/db/migrate.ts';
import { escapeIdentifier } from 'pg';
import { expect, it } from 'vitest';
import { startChild } from '../../../test/support/child.ts';
import { createTestDatabase } from '../../../test/support/database.ts';
import { fingerprint } from '../../../test/support/fingerprint.ts';
import { until } from '../../../test/support/wait.ts';
import { withClient } from '../../../test/support/test-server.ts';
import type { ChildOrder } from './migrate-child.ts';
import { BOTH_MODES, migrationFiles } from './migration-directory.ts';

const CHILD = path.join(import.meta.dirname, 'migrate-child.ts');

interface Stage {
  order: ChildOrder & Pick<MigrateOptions, 'onProgress'>;
  superuserUrl: string;
  facts(): Promise<string[]>;
  /** No schema and no logins: everything that a first migration does is still to be done. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

async function openStage(login: string, directory?: string): Promise<Stage> {
  const db = await createTestDatabase({ migrated: false });
  const app = new URL(db.appUrl);
  // The other test databases of this server share a login that must stay.
  app.username = `${db.logins.app}_${login}`;
  const logins = { owner: db.logins.owner, app: app.username, discovery: `${app.username}_discovery` };
  const clear = () =>
    withClient(db.superuserUrl, async (client) => {
      await client.query('DROP SCHEMA IF EXISTS carillon CASCADE');
      for (const role of [logins.app, logins.discovery])
        await client.query(`DROP ROLE IF EXISTS ${escapeIdentifier(role)}`);
    });
  return {
    order: { ownerUrl: db.ownerUrl, appUrl: app.toString(), directory },
    superuserUrl: db.superuserUrl,
    facts: () => fingerprint(db.superuserUrl, logins),
    clear,
    async close() {
      await clear();
      await db.drop();
    },
  };
}

/** The facts after a migration in one go, and how many statements that took. */
async function inOneGo(stage: Stage): Promise<{ facts: string[]; statements: number }> {
  const child = startChild(CHILD);
  child.send(stage.order);
  const { statements } = await child.next<{ done: object; statements: number }>();
  await child.ended;
  return { facts: await stage.facts(), statements };
}

/** Kills a migration before each of its statements, and after each migrates again. Returns how often it killed. */
async function killEverywhere(stage: Stage, whole: { facts: string[]; statements: number }): Promise<number> {
  let kills = 0;
  // The next process starts while this one is being killed.
  let next = startChild(CHILD);
  for (let stop_at = 1; stop_at <= whole.statements; stop_at++) {
    const child = next;
    next = startChild(CHILD);
    await stage.clear();
    child.send({ ...stage.order, stop_at });
    const { stopped } = await child.next<{ stopped: string }>();
    await child.kill('SIGKILL');
    kills += (await child.ended) === 'SIGKILL' ? 1 : 0;
    await migrate(stage.order);
    expect(await stage.facts(), `killed before statement ${stop_at}: ${stopped}`).toEqual(whole.facts);
  }
  await next.kill();
  return kills;
}

it('killed at each statement of the real migrations and run again gives the same schema as in one go', async () => {
  const stage = await openStage('real');
  const whole = await inOneGo(stage);
  expect(whole.statements).toBeGreaterThan(50);
  expect(whole.facts.length).toBeGreaterThan(200);
  expect(await killEverywhere(stage, whole)).toBe(whole.statements);
  await stage.close();
}, 600_000);

it('the same for files that run without a transaction, statement by statement', async () => {
  const stage = await openStage('both', await migrationFiles(BOTH_MODES));
  const whole = await inOneGo(stage);
  expect(whole.facts.filter((fact) => fact.startsWith('index ')).join('\n')).toMatch(/things_name .*valid=t/);
  expect(await killEverywhere(stage, whole)).toBe(whole.statements);
  await stage.close();
}, 300_000);

it('after a kill the next migration waits for a statement that the server still executes', async () => {
  const held = 4711;
  const stage = await openStage(
    'wait',
    await migrationFiles({ '0001_slow.sql': `CREATE TABLE carillon.a (id int); SELECT pg_advisory_lock(${held});` }),
  );
  await withClient(stage.superuserUrl, async (client) => {
    const blocked = async () => {
      const { rows } = await client.query("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
      return rows.length > 0;
    };
    await client.query('SELECT pg_advisory_lock($1)', [held]);
    const child = startChild(CHILD);
    child.send(stage.order);
    await until(blocked, { deadline_ms: 10_000, what: 'the migration is in its slow statement' });
    await child.kill('SIGKILL');
    const waiting: number[] = [];
    const second = migrate({
      ...stage.order,
      onProgress: (step) => void (step.kind === 'waiting' && waiting.push(step.waited_ms)),
    });
    await until(() => waiting.length > 0, { deadline_ms: 10_000, what: 'the second migration says that it waits' });
    expect(waiting[0]).toBe(2_000);
    expect(await blocked()).toBe(true);
    await client.query('SELECT pg_advisory_unlock($1)', [held]);
    expect((await second).applied.map((file) => file.name)).toEqual(['0001_slow.sql']);
  });
  await stage.close();
});
