import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { queryGlobal } from '../src/db/database.ts';
import { accountIsSettled } from '../src/restore/accounts.ts';
import { suspectRestore } from '../src/restore/notice.ts';
import { ACKNOWLEDGE, readRestoreState, settleHere } from '../src/restore/state.ts';
import { watchForRestore } from '../src/restore/watch.ts';
import { until } from '../../../test/support/wait.ts';
import { behind } from './support/behind.ts';
import { actor, createFixture, createTenant, type Fixture } from './support/fixture.ts';

/** What is looked at in the moment of each write about a restore. */

let fixture: Fixture;
beforeEach(async () => (fixture = await createFixture()));
afterEach(async () => await fixture.close());

/** A process's watch after its first beat, which looks again only when it is told to. */
async function watchAs(witness_id: string) {
  const errors: unknown[] = [];
  const watch = watchForRestore({
    db: fixture.db,
    witness_id,
    actor,
    onNotice: () => {},
    onError: (error) => errors.push(error),
  });
  await until(() => watch.known(), { deadline_ms: 30_000, what: 'the first beat' });
  await watch.close();
  expect(errors).toEqual([]);
  return watch;
}

const beatOf = async (witness_id: string) =>
  (await fixture.rows<{ beat: string }>('SELECT beat FROM carillon.witnesses WHERE witness_id = $1', [witness_id]))[0];

describe('a restore', () => {
  it('is noticed once, by the first of those who have seen the same', async () => {
    const seen = { restores: 0, known: 0 };
    expect(await suspectRestore(fixture.db, 'first', actor, seen)).toBe(true);
    expect(await suspectRestore(fixture.db, 'second', actor, seen)).toBe(false);
    expect(await readRestoreState(fixture.db)).toMatchObject({ reason: 'first', restores: 1 });
    expect(await suspectRestore(fixture.db, 'third', actor, { restores: 1, known: 4 })).toBe(true);
    expect(await readRestoreState(fixture.db)).toMatchObject({ reason: 'third', restores: 5 });
  });

  it('that somebody else counts at the same moment, or that is undone by another restore, is looked at again', async () => {
    const watch = await watchAs('survivor');
    await watch.beat();
    await fixture.rows('UPDATE carillon.witnesses SET beat = 1');
    // The look sees an older state; when it comes to say so, somebody else has, or it is yet another.
    const counted = 'UPDATE carillon.installation_state SET restores = $1';
    await behind(fixture, [[counted, [7]]], () => watch.beat());
    expect(watch.known()).toMatchObject({ restores: 0, beat: 2 });
    expect(await readRestoreState(fixture.db)).toMatchObject({ reason: null, restores: 7 });
    await watch.beat();
    expect(watch.known()).toMatchObject({ restores: 7, beat: 3 });
  });

  it('is acknowledged only as the one that was seen', async () => {
    await suspectRestore(fixture.db, 'declared', actor);
    const acknowledge = (restores: number) => queryGlobal(fixture.db, ACKNOWLEDGE, ['a person', null, restores, 0]);
    expect(await acknowledge(0)).toEqual([]);
    expect(await readRestoreState(fixture.db)).toMatchObject({ reason: 'declared' });
    expect(await acknowledge(1)).toHaveLength(1);
    expect(await readRestoreState(fixture.db)).toMatchObject({ reason: null });
  });

  it('an account is settled once for each restore, though two workers come to it', async () => {
    const { business_id, carrier_account_id } = await createTenant(fixture, { leads: 0 });
    const account = { business_id, carrier_account_id };
    for (let worker = 0; worker < 2; worker++)
      await accountIsSettled(fixture.db, account, 1, { listed: 0, forgotten: 0, reviewed: 0 }, actor);
    const told = "SELECT 1 FROM carillon.audit_events WHERE business_id = $1 AND action = 'restore.reconciled'";
    expect(await fixture.rows(told, [business_id])).toHaveLength(1);
  });
});

describe('a database', () => {
  it('is told its place by the first process alone', async () => {
    await fixture.rows("UPDATE carillon.installation_state SET place = 'elsewhere'");
    await settleHere(fixture.db);
    expect(await readRestoreState(fixture.db)).toMatchObject({ place: 'elsewhere' });
  });

  it('that is put back between a look and a write is written to by nobody', async () => {
    const watch = await watchAs('survivor');
    await watch.beat();
    // The look sees what was there; when it comes to write, an older state is there.
    const beating = behind(fixture, [['UPDATE carillon.witnesses SET beat = 1', []]], () => watch.beat());
    await expect(beating).rejects.toThrow('changed between a look and a write');
    expect(await beatOf('survivor')).toEqual({ beat: '1' });
  });

  it('is believed from then on with what its processes have counted', async () => {
    const watch = await watchAs('survivor');
    for (let beats = 0; beats < 3; beats++) await watch.beat();
    await fixture.rows('UPDATE carillon.witnesses SET beat = 1');
    await watch.beat();
    expect(watch.suspected()).toMatchObject({ restores: 1 });
    expect(Number((await beatOf('survivor'))?.beat)).toBe(5);
    expect(watch.known()).toMatchObject({ beat: 5 });
  });
});
