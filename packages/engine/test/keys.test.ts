import { createHash } from 'node:crypto';
import { BusinessId, KeyId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createBusiness } from '../src/business/create-business.ts';
import { authenticate, createKey, listKeys, revokeKey } from '../src/business/keys.ts';
import { actor, createFixture, type Fixture } from './support/fixture.ts';

let fixture: Fixture;
let ours: BusinessId;
let theirs: BusinessId;
beforeAll(async () => {
  fixture = await createFixture();
  ours = (await createBusiness(fixture.db, { name: 'ours', language: 'en' }, actor)).business_id;
  theirs = (await createBusiness(fixture.db, { name: 'theirs' }, actor)).business_id;
});
afterAll(async () => await fixture.close());

/** What is said of a key that nobody knows. */
const NOBODY = { principal: null, refused: null };
const refused = (reason: string, key_id: KeyId) => ({
  principal: null,
  refused: { reason, business_id: ours, key_id },
});

describe('a key', () => {
  it('carries its business, and opens with its role', async () => {
    for (const role of ['owner', 'admin', 'agent'] as const) {
      const { key, key_id } = await createKey(fixture.db, ours, { role }, actor);
      expect(key).toMatch(new RegExp(`^ck_${ours}_${key_id}_[A-Za-z0-9_-]{32}$`));
      expect(await authenticate(fixture.db, key)).toEqual({
        principal: { business_id: ours, key_id, role, language: 'en', entered_by: null },
      });
    }
  });

  it('is kept as a hash alone', async () => {
    const { key, key_id } = await createKey(fixture.db, ours, { role: 'agent', label: ' the shop ' }, actor);
    const secret = key.split('_').slice(3).join('_');
    const [row] = await fixture.rows('SELECT * FROM carillon.api_keys WHERE key_id = $1', [key_id]);
    expect(row).toMatchObject({ label: 'the shop', secret_hash: createHash('sha256').update(secret).digest() });
    expect(JSON.stringify(row)).not.toContain(secret);
  });

  it('is refused a label out of bounds, and a business that does not exist', async () => {
    await expect(createKey(fixture.db, ours, { role: 'agent', label: 'x'.repeat(201) }, actor)).rejects.toMatchObject({
      code: 'invalid_request',
    });
    await expect(createKey(fixture.db, BusinessId.parse(987_654), { role: 'agent' }, actor)).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining('no business 987654'),
    });
  });
});

describe('what opens nothing', () => {
  it('is a key that is not well formed', async () => {
    const { key } = await createKey(fixture.db, ours, { role: 'owner' }, actor);
    const bad = ['', 'ck_', 'x', ` ${key}`, `${key} `, `${key}A`, key.slice(0, -1), key.replace('ck_', 'CK_')];
    bad.push(`ck_0_1_${'A'.repeat(32)}`, `ck_9999999999999999_1_${'A'.repeat(32)}`, `ck_1e3_1_${'A'.repeat(32)}`);
    bad.push(key.repeat(10_000), `${key}\n`, `ck_${ours}_'; DROP_${'A'.repeat(32)}`);
    for (const text of bad) expect(await authenticate(fixture.db, text), text.slice(0, 60)).toEqual(NOBODY);
  });

  it('is a secret, a key id or a business that is another', async () => {
    const { key, key_id } = await createKey(fixture.db, ours, { role: 'owner' }, actor);
    const other = await createKey(fixture.db, theirs, { role: 'owner' }, actor);
    const secret = key.split('_').slice(3).join('_');
    const flipped = secret.startsWith('A') ? `B${secret.slice(1)}` : `A${secret.slice(1)}`;
    expect(await authenticate(fixture.db, `ck_${ours}_${key_id}_${flipped}`)).toEqual(NOBODY);
    expect(await authenticate(fixture.db, `ck_${ours}_${other.key_id}_${secret}`)).toEqual(NOBODY);
    expect(await authenticate(fixture.db, `ck_${theirs}_${key_id}_${secret}`)).toEqual(NOBODY);
    expect(await authenticate(fixture.db, `ck_${theirs}_${other.key_id}_${secret}`)).toEqual(NOBODY);
    expect(await authenticate(fixture.db, `ck_987654_${key_id}_${secret}`)).toEqual(NOBODY);
    expect(await authenticate(fixture.db, key)).toMatchObject({ principal: { key_id } });
  });

  it('is an expired key, and not one that has time left', async () => {
    const hour_ms = 3_600_000;
    const [now] = await fixture.rows<{ now: Date }>('SELECT now()');
    const at = (offset_ms: number) => new Date((now?.now.getTime() ?? 0) + offset_ms);
    const past = await createKey(fixture.db, ours, { role: 'owner', expires_at: at(-1_000) }, actor);
    const future = await createKey(fixture.db, ours, { role: 'owner', expires_at: at(hour_ms) }, actor);
    expect(await authenticate(fixture.db, past.key)).toEqual(refused('expired', past.key_id));
    expect(await authenticate(fixture.db, future.key)).toMatchObject({ principal: { key_id: future.key_id } });
  });

  it('is a revoked key, at once and for good', async () => {
    const { key, key_id } = await createKey(fixture.db, ours, { role: 'owner' }, actor);
    expect(await revokeKey(fixture.db, ours, key_id, actor)).toMatchObject({ key_id, state: 'revoked' });
    expect(await authenticate(fixture.db, key)).toEqual(refused('revoked', key_id));
    const [first] = await fixture.rows('SELECT revoked_at FROM carillon.api_keys WHERE key_id = $1', [key_id]);
    expect(await revokeKey(fixture.db, ours, key_id, actor)).toMatchObject({ key_id, state: 'revoked' });
    expect(await fixture.rows('SELECT revoked_at FROM carillon.api_keys WHERE key_id = $1', [key_id])).toEqual([first]);
  });

  it('asks the database whatever is wrong, so that every refusal takes the same way', async () => {
    const { key, key_id } = await createKey(fixture.db, ours, { role: 'owner' }, actor);
    await revokeKey(fixture.db, ours, key_id, actor);
    for (const text of ['nonsense', `ck_987654_1_${'A'.repeat(32)}`, key]) {
      const { taken } = fixture.db.connections();
      expect(await authenticate(fixture.db, text)).toMatchObject({ principal: null });
      expect(fixture.db.connections().taken).toBe(taken + 1);
    }
  });
});

it('is not revoked by another business, and one that is not there by nobody', async () => {
  const { key, key_id } = await createKey(fixture.db, ours, { role: 'owner' }, actor);
  await expect(revokeKey(fixture.db, theirs, key_id, actor)).rejects.toMatchObject({ code: 'key_not_found' });
  await expect(revokeKey(fixture.db, ours, KeyId.parse(987_654), actor)).rejects.toMatchObject({
    code: 'key_not_found',
  });
  expect(await authenticate(fixture.db, key)).toMatchObject({ principal: { key_id } });
});

describe('the last valid owner key', () => {
  const business = async (name: string) => await createBusiness(fixture.db, { name }, actor);
  const past = new Date('2020-01-01T00:00:00Z');

  it('stays until there is another, whatever else there is', async () => {
    const { business_id, key_id } = await business('one owner');
    await createKey(fixture.db, business_id, { role: 'admin' }, actor);
    await createKey(fixture.db, business_id, { role: 'owner', expires_at: past }, actor);
    const gone = await createKey(fixture.db, business_id, { role: 'owner' }, actor);
    await revokeKey(fixture.db, business_id, gone.key_id, actor);
    await expect(revokeKey(fixture.db, business_id, key_id, actor)).rejects.toMatchObject({ code: 'last_owner_key' });
    const next = await createKey(fixture.db, business_id, { role: 'owner' }, actor);
    expect(await revokeKey(fixture.db, business_id, key_id, actor)).toMatchObject({ state: 'revoked' });
    await expect(revokeKey(fixture.db, business_id, next.key_id, actor)).rejects.toMatchObject({
      code: 'last_owner_key',
    });
  });

  it('stays also when two owners revoke each other at once', async () => {
    for (let round = 0; round < 5; round++) {
      const { business_id, key_id: first } = await business('two owners');
      const { key_id: second } = await createKey(fixture.db, business_id, { role: 'owner' }, actor);
      const ends = await Promise.allSettled(
        [first, second].map((key_id) => revokeKey(fixture.db, business_id, key_id, actor)),
      );
      expect(ends.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    }
  });
});

describe('the trail of keys', () => {
  const events = async (key_id: KeyId) =>
    await fixture.rows(
      `SELECT action, actor, before, after FROM carillon.audit_events
       WHERE business_id = $1 AND subject_type = 'key' AND subject_id = $2 ORDER BY event_id`,
      [ours, String(key_id)],
    );

  it('has who made and who revoked one, once, and neither secret nor label', async () => {
    const by = (name: string) => ({ name, user_id: null });
    const { key, key_id } = await createKey(fixture.db, ours, { role: 'agent', label: "Dana's" }, by('key:1'));
    await revokeKey(fixture.db, ours, key_id, by('key:2'));
    await revokeKey(fixture.db, ours, key_id, by('key:3'));
    expect(await events(key_id)).toEqual([
      { action: 'key.created', actor: 'key:1', before: null, after: { role: 'agent', expires_at: null } },
      {
        action: 'key.revoked',
        actor: 'key:2',
        before: { role: 'agent', state: 'valid' },
        after: { state: 'revoked' },
      },
    ]);
    const all = JSON.stringify(await fixture.rows('SELECT * FROM carillon.audit_events'));
    expect(all).not.toContain(key.slice(-32));
    expect(all).not.toContain('Dana');
  });

  it('has nothing of a key that could not be revoked', async () => {
    const { key_id } = await createKey(fixture.db, ours, { role: 'agent' }, actor);
    await expect(revokeKey(fixture.db, theirs, key_id, actor)).rejects.toThrow('Key not found');
    expect(await events(key_id)).toMatchObject([{ action: 'key.created' }]);
    const foreign = await fixture.rows(
      "SELECT 1 FROM carillon.audit_events WHERE business_id = $1 AND action = 'key.revoked'",
      [theirs],
    );
    expect(foreign).toEqual([]);
  });
});

it('lists its own keys, newest first, with their state and without their secrets', async () => {
  const { business_id, key_id: first } = await createBusiness(fixture.db, { name: 'list' }, actor);
  const agent = await createKey(fixture.db, business_id, { role: 'agent', label: 'shop' }, actor);
  await revokeKey(fixture.db, business_id, agent.key_id, actor);
  const page = await listKeys(fixture.db, business_id, { limit: 1 });
  expect(page).toMatchObject({
    items: [{ key_id: agent.key_id, role: 'agent', label: 'shop', state: 'revoked' }],
    next: String(agent.key_id),
  });
  const rest = await listKeys(fixture.db, business_id, { limit: 1, after: agent.key_id });
  expect(rest).toMatchObject({ items: [{ key_id: first, role: 'owner', state: 'valid' }], next: null });
  expect(JSON.stringify([page, rest])).not.toMatch(/secret|hash|ck_/);
});
