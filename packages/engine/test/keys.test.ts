import { createHash } from 'node:crypto';
import { BusinessId, KeyId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createBusiness } from '../src/business/create-business.ts';
import { authenticate, createKey, revokeKey } from '../src/business/keys.ts';
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

describe('a key', () => {
  it('carries its business, and opens with its role', async () => {
    for (const role of ['owner', 'admin', 'agent'] as const) {
      const { key, key_id } = await createKey(fixture.db, ours, { role });
      expect(key).toMatch(new RegExp(`^ck_${ours}_${key_id}_[A-Za-z0-9_-]{32}$`));
      expect(await authenticate(fixture.db, key)).toEqual({ business_id: ours, key_id, role, language: 'en' });
    }
  });

  it('is kept as a hash alone', async () => {
    const { key, key_id } = await createKey(fixture.db, ours, { role: 'agent', label: ' the shop ' });
    const secret = key.split('_').slice(3).join('_');
    const [row] = await fixture.rows('SELECT * FROM carillon.api_keys WHERE key_id = $1', [key_id]);
    expect(row).toMatchObject({ label: 'the shop', secret_hash: createHash('sha256').update(secret).digest() });
    expect(JSON.stringify(row)).not.toContain(secret);
  });

  it('is refused a label out of bounds, and a business that does not exist', async () => {
    await expect(createKey(fixture.db, ours, { role: 'agent', label: 'x'.repeat(201) })).rejects.toMatchObject({
      code: 'invalid_request',
    });
    await expect(createKey(fixture.db, BusinessId.parse(987_654), { role: 'agent' })).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining('no business 987654'),
    });
  });
});

describe('what opens nothing', () => {
  it('is a key that is not well formed', async () => {
    const { key } = await createKey(fixture.db, ours, { role: 'owner' });
    const bad = ['', 'ck_', 'x', ` ${key}`, `${key} `, `${key}A`, key.slice(0, -1), key.replace('ck_', 'CK_')];
    bad.push(`ck_0_1_${'A'.repeat(32)}`, `ck_9999999999999999_1_${'A'.repeat(32)}`, `ck_1e3_1_${'A'.repeat(32)}`);
    bad.push(key.repeat(10_000), `${key}\n`, `ck_${ours}_'; DROP_${'A'.repeat(32)}`);
    for (const text of bad) expect(await authenticate(fixture.db, text), text.slice(0, 60)).toBeNull();
  });

  it('is a secret, a key id or a business that is another', async () => {
    const { key, key_id } = await createKey(fixture.db, ours, { role: 'owner' });
    const other = await createKey(fixture.db, theirs, { role: 'owner' });
    const secret = key.split('_').slice(3).join('_');
    const flipped = secret.startsWith('A') ? `B${secret.slice(1)}` : `A${secret.slice(1)}`;
    expect(await authenticate(fixture.db, `ck_${ours}_${key_id}_${flipped}`)).toBeNull();
    expect(await authenticate(fixture.db, `ck_${ours}_${other.key_id}_${secret}`)).toBeNull();
    expect(await authenticate(fixture.db, `ck_${theirs}_${key_id}_${secret}`)).toBeNull();
    expect(await authenticate(fixture.db, `ck_${theirs}_${other.key_id}_${secret}`)).toBeNull();
    expect(await authenticate(fixture.db, `ck_987654_${key_id}_${secret}`)).toBeNull();
    expect(await authenticate(fixture.db, key)).not.toBeNull();
  });

  it('is an expired key, and not one that has time left', async () => {
    const hour_ms = 3_600_000;
    const [now] = await fixture.rows<{ now: Date }>('SELECT now()');
    const at = (offset_ms: number) => new Date((now?.now.getTime() ?? 0) + offset_ms);
    const past = await createKey(fixture.db, ours, { role: 'owner', expires_at: at(-1_000) });
    const future = await createKey(fixture.db, ours, { role: 'owner', expires_at: at(hour_ms) });
    expect(await authenticate(fixture.db, past.key)).toBeNull();
    expect(await authenticate(fixture.db, future.key)).toMatchObject({ key_id: future.key_id });
  });

  it('is a revoked key, at once and for good', async () => {
    const { key, key_id } = await createKey(fixture.db, ours, { role: 'owner' });
    expect(await revokeKey(fixture.db, ours, key_id)).toBe(true);
    expect(await authenticate(fixture.db, key)).toBeNull();
    const [first] = await fixture.rows('SELECT revoked_at FROM carillon.api_keys WHERE key_id = $1', [key_id]);
    expect(await revokeKey(fixture.db, ours, key_id)).toBe(true);
    expect(await fixture.rows('SELECT revoked_at FROM carillon.api_keys WHERE key_id = $1', [key_id])).toEqual([first]);
  });

  it('asks the database whatever is wrong, so that every refusal takes the same way', async () => {
    const { key, key_id } = await createKey(fixture.db, ours, { role: 'owner' });
    await revokeKey(fixture.db, ours, key_id);
    for (const text of ['nonsense', `ck_987654_1_${'A'.repeat(32)}`, key]) {
      const { taken } = fixture.db.connections();
      expect(await authenticate(fixture.db, text)).toBeNull();
      expect(fixture.db.connections().taken).toBe(taken + 1);
    }
  });
});

it('is not revoked by another business, and one that is not there by nobody', async () => {
  const { key, key_id } = await createKey(fixture.db, ours, { role: 'owner' });
  expect(await revokeKey(fixture.db, theirs, key_id)).toBe(false);
  expect(await revokeKey(fixture.db, ours, KeyId.parse(987_654))).toBe(false);
  expect(await authenticate(fixture.db, key)).toMatchObject({ key_id });
});
