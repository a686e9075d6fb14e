import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { BusinessId, CarrierAccountId, CreateCarrierAccount } from '@carillon/contract';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { packSecrets, unpackSecrets } from '../src/business/account-secrets.ts';
import {
  createCarrierAccount,
  listCarrierAccounts,
  moveCarrierAccount,
  readCredentials,
  resumeLane,
} from '../src/business/carrier-accounts.ts';
import { createBusiness } from '../src/business/create-business.ts';
import { actor, createFixture, type Fixture } from './support/fixture.ts';

const secret = randomBytes(32);
const input = CreateCarrierAccount.parse({
  name: 'main',
  base_url: 'http://127.0.0.1:4010/carrier//',
  account_sid: 'AC1',
  auth_token: 'a token that nobody sees',
  from_numbers: ['+97231110000', '+97231110001'],
  concurrency_limit: 3,
  calls_per_second: 0.5,
});
const shown = {
  name: 'main',
  driver: 'twilio',
  base_url: 'http://127.0.0.1:4010/carrier',
  account_sid: 'AC1',
  from_numbers: ['+97231110000', '+97231110001'],
  concurrency_limit: 3,
  calls_per_second: 0.5,
  halted_reason: null,
  halted_until: null,
};

let fixture: Fixture;
let ours: BusinessId;
let theirs: BusinessId;
beforeAll(async () => {
  fixture = await createFixture();
  ours = (await createBusiness(fixture.db, { name: 'ours' }, actor)).business_id;
  theirs = (await createBusiness(fixture.db, { name: 'theirs' }, actor)).business_id;
});
afterAll(async () => await fixture.close());

const rsaKey = (modulusLength: number) =>
  generateKeyPairSync('rsa', { modulusLength }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();

let created = 0;
/** Each under an account of its own at the carrier, if not told which. */
const create = (account_sid = `AC-own-${++created}`) =>
  createCarrierAccount(fixture.db, ours, { ...input, account_sid }, secret, actor);
const find = async (carrier_account_id: number) =>
  (await listCarrierAccounts(fixture.db, ours, { limit: 1_000 })).items.find(
    (account) => account.carrier_account_id === carrier_account_id,
  );

describe('a carrier account', () => {
  it('comes with its lane, is shown without its secret, and is kept with it sealed', async () => {
    const account = await create('AC1');
    expect(account).toEqual({ ...shown, carrier_account_id: expect.any(Number) });
    expect(await find(account.carrier_account_id)).toEqual(account);
    const [row] = await fixture.rows<{ auth_token_sealed: Buffer }>(
      'SELECT auth_token_sealed FROM carillon.carrier_accounts WHERE carrier_account_id = $1',
      [account.carrier_account_id],
    );
    expect(row?.auth_token_sealed.includes(input.auth_token)).toBe(false);
    expect(await readCredentials(fixture.db, ours, CarrierAccountId.parse(account.carrier_account_id), secret)).toEqual(
      {
        driver: 'twilio',
        base_url: shown.base_url,
        account_sid: 'AC1',
        auth_token: input.auth_token,
      },
    );
  });

  it('keeps the key that its requests are signed with as it keeps its token, and refuses one that can not sign', async () => {
    const client_validation = { credential_sid: 'CR1', signing_key_sid: 'SK1', private_key_pem: rsaKey(2_048) };
    const account = await createCarrierAccount(
      fixture.db,
      ours,
      { ...input, account_sid: 'AC-signs', client_validation },
      secret,
      actor,
    );
    expect(JSON.stringify([account, await find(account.carrier_account_id)])).not.toMatch(/PRIVATE KEY|SK1/);
    const id = CarrierAccountId.parse(account.carrier_account_id);
    expect(await readCredentials(fixture.db, ours, id, secret)).toMatchObject({
      auth_token: input.auth_token,
      client_validation,
    });
    for (const private_key_pem of [rsaKey(1_024), '-----BEGIN PRIVATE KEY-----\nno key\n-----END PRIVATE KEY-----'])
      await expect(
        createCarrierAccount(
          fixture.db,
          ours,
          { ...input, account_sid: 'AC-no', client_validation: { ...client_validation, private_key_pem } },
          secret,
          actor,
        ),
      ).rejects.toMatchObject({ code: 'invalid_request', details: { problem: expect.stringContaining('2048 bits') } });
  });

  it.each(['{"auth_token":"another"}', '{', 'token {}'])('keeps a token that reads %s as it is', (auth_token) => {
    expect(unpackSecrets(packSecrets({ auth_token }))).toEqual({ auth_token });
  });

  it('does not open with a secret that was moved over from another', async () => {
    const [one, two] = [await create(), await create()];
    await fixture.rows(
      `UPDATE carillon.carrier_accounts a SET auth_token_sealed = b.auth_token_sealed FROM carillon.carrier_accounts b
       WHERE a.carrier_account_id = $1 AND b.carrier_account_id = $2`,
      [one.carrier_account_id, two.carrier_account_id],
    );
    await expect(
      readCredentials(fixture.db, ours, CarrierAccountId.parse(one.carrier_account_id), secret),
    ).rejects.toThrow('CARILLON_SECRET');
  });

  it('is not made without its lane, nor for a business that does not exist', async () => {
    const before = await fixture.rows('SELECT count(*) FROM carillon.carrier_accounts');
    const bad = { ...input, account_sid: 'AC-bad', calls_per_second: 1e9 };
    await expect(createCarrierAccount(fixture.db, ours, bad, secret, actor)).rejects.toThrow(
      /calls_per_second|aborted/,
    );
    const nobody = createCarrierAccount(fixture.db, BusinessId.parse(987_654), input, secret, actor);
    await expect(nobody).rejects.toMatchObject({ code: 'invalid_request' });
    expect(await fixture.rows('SELECT count(*) FROM carillon.carrier_accounts')).toEqual(before);
  });

  it('has its numbers to itself: the same carrier account can’t be entered with one of them again', async () => {
    const first = await create('AC-twice');
    const again = (changes: Partial<typeof input>) =>
      createCarrierAccount(fixture.db, ours, { ...input, account_sid: 'AC-twice', ...changes }, secret, actor);
    // However many slashes the address ends with.
    const one = { base_url: `${shown.base_url}/`, from_numbers: ['+97231110009', '+97231110001'] };
    await expect(again(one)).rejects.toMatchObject({
      code: 'from_number_taken',
      details: { from_number: '+97231110001', carrier_account_id: first.carrier_account_id },
    });
    await expect(again({ from_numbers: ['+97231110009'] })).resolves.toMatchObject({ account_sid: 'AC-twice' });
    await expect(again({ base_url: 'http://127.0.0.1:4011' })).resolves.toMatchObject({ account_sid: 'AC-twice' });
    await expect(create('AC-another')).resolves.toMatchObject({ from_numbers: input.from_numbers });
  });

  it('has them to itself also when it is entered twice at once: the second waits and sees the first', async () => {
    const first = await create('AC-at-once');
    const holder = new pg.Client({ connectionString: fixture.superuserUrl });
    await holder.connect();
    try {
      // The first as if it were not committed yet: it holds the business, and its row is there for nobody else.
      await holder.query('BEGIN');
      await holder.query('SELECT 1 FROM carillon.businesses WHERE business_id = $1 FOR NO KEY UPDATE', [ours]);
      await holder.query(
        "UPDATE carillon.carrier_accounts SET account_sid = 'AC-moved' WHERE carrier_account_id = $1",
        [first.carrier_account_id],
      );
      let settled = false;
      const second = create('AC-moved').finally(() => (settled = true));
      second.catch(() => {});
      await until(
        async () => {
          const waiting = await fixture.rows(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
          );
          return settled || waiting.length > 0;
        },
        { deadline_ms: 10_000, what: 'the second to wait' },
      );
      await holder.query('COMMIT');
      await expect(second).rejects.toMatchObject({ code: 'from_number_taken' });
    } finally {
      await holder.end();
    }
  });

  it('is listed in pages', async () => {
    const { business_id } = await createBusiness(fixture.db, { name: 'many' }, actor);
    const made: number[] = [];
    for (let n = 0; n < 5; n++) {
      const own = { ...input, account_sid: `AC${n}` };
      made.push((await createCarrierAccount(fixture.db, business_id, own, secret, actor)).carrier_account_id);
    }
    const seen: number[] = [];
    let after: number | undefined;
    do {
      const page = await listCarrierAccounts(fixture.db, business_id, { after, limit: 2 });
      expect(page.items.length).toBeLessThanOrEqual(2);
      seen.push(...page.items.map((account) => account.carrier_account_id));
      after = page.next === null ? undefined : Number(page.next);
    } while (after !== undefined);
    expect(seen).toEqual(made);
  });
});

describe('a halted lane', () => {
  const halt = (carrier_account_id: number, until: string | null) =>
    fixture.rows(
      `UPDATE carillon.lanes SET halted_reason = '20003', refusals_in_a_row = 4,
         halted_until_us = (extract(epoch FROM now() + $2::interval) * 1000000)::bigint
       WHERE carrier_account_id = $1`,
      [carrier_account_id, until],
    );

  it('is shown with its reason and end, as long as that lasts', async () => {
    const { carrier_account_id } = await create();
    await halt(carrier_account_id, null);
    expect(await find(carrier_account_id)).toMatchObject({ halted_reason: '20003', halted_until: null });
    await halt(carrier_account_id, '1 hour');
    expect(await find(carrier_account_id)).toMatchObject({
      halted_reason: '20003',
      halted_until: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    await halt(carrier_account_id, '-1 second');
    expect(await find(carrier_account_id)).toMatchObject({ halted_reason: null, halted_until: null });
  });

  it('goes on when a person says so', async () => {
    const account = await create();
    const { carrier_account_id } = account;
    await halt(carrier_account_id, null);
    expect(await resumeLane(fixture.db, ours, CarrierAccountId.parse(carrier_account_id), actor)).toEqual(account);
    expect(
      await fixture.rows(
        `SELECT halted_reason, halted_until_us, refusals_in_a_row FROM carillon.lanes WHERE carrier_account_id = $1`,
        [carrier_account_id],
      ),
    ).toEqual([{ halted_reason: null, halted_until_us: null, refusals_in_a_row: 0 }]);
  });
});

describe('another business', () => {
  it('neither sees, opens nor resumes it, and is told what it is told of one that is not there', async () => {
    const { carrier_account_id } = await create();
    await fixture.rows("UPDATE carillon.lanes SET halted_reason = 'x' WHERE carrier_account_id = $1", [
      carrier_account_id,
    ]);
    expect(await listCarrierAccounts(fixture.db, theirs, { limit: 10 })).toEqual({ items: [], next: null });
    for (const id of [carrier_account_id, 987_654].map((id) => CarrierAccountId.parse(id))) {
      await expect(readCredentials(fixture.db, theirs, id, secret)).rejects.toMatchObject({
        code: 'carrier_account_not_found',
        details: {},
      });
      await expect(resumeLane(fixture.db, theirs, id, actor)).rejects.toMatchObject({
        code: 'carrier_account_not_found',
        details: {},
      });
    }
    expect(await find(carrier_account_id)).toMatchObject({ halted_reason: 'x' });
  });
});

describe('a carrier that has moved', () => {
  const trailOf = (carrier_account_id: number) =>
    fixture.rows<{ action: string; before: unknown; after: unknown }>(
      "SELECT action, before, after FROM carillon.audit_events WHERE subject_id = $1 AND action LIKE '%moved'",
      [String(carrier_account_id)],
    );

  it('is asked at its new address from then on, which is in the trail, once', async () => {
    const { carrier_account_id, base_url } = await create();
    const id = CarrierAccountId.parse(carrier_account_id);
    for (const _ of [1, 2]) await moveCarrierAccount(fixture.db, ours, id, 'http://127.0.0.1:4011/', actor);
    expect((await readCredentials(fixture.db, ours, id, secret)).base_url).toBe('http://127.0.0.1:4011');
    expect(await trailOf(id)).toEqual([
      { action: 'carrier_account.moved', before: { base_url }, after: { base_url: 'http://127.0.0.1:4011' } },
    ]);
  });

  it('does not go where another entry has its account and number already', async () => {
    const there = await create('AC-moving');
    const moving = await createCarrierAccount(
      fixture.db,
      ours,
      { ...input, base_url: 'http://127.0.0.1:4012', account_sid: 'AC-moving' },
      secret,
      actor,
    );
    const id = CarrierAccountId.parse(moving.carrier_account_id);
    await expect(moveCarrierAccount(fixture.db, ours, id, there.base_url, actor)).rejects.toMatchObject({
      code: 'from_number_taken',
    });
    await expect(moveCarrierAccount(fixture.db, theirs, id, 'http://127.0.0.1:1', actor)).rejects.toMatchObject({
      code: 'carrier_account_not_found',
    });
    expect((await find(id))?.base_url).toBe('http://127.0.0.1:4012');
  });
});
