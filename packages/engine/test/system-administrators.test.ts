import { createHash } from 'node:crypto';
import { BusinessId, KeyId, SystemKeyId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listBusinesses } from '../src/business/businesses.ts';
import { createBusiness } from '../src/business/create-business.ts';
import { enterBusiness } from '../src/business/enter-business.ts';
import { authenticate, createKey, revokeKey } from '../src/business/keys.ts';
import { authenticateSystem, createSystemKey, listSystemKeys, revokeSystemKey } from '../src/business/system-keys.ts';
import { actor, createFixture, type Fixture } from './support/fixture.ts';

let fixture: Fixture;
let ours: BusinessId;
beforeAll(async () => {
  fixture = await createFixture();
  ours = (await createBusiness(fixture.db, { name: 'ours' }, actor)).business_id;
});
afterAll(async () => await fixture.close());

const past = new Date('2020-01-01T00:00:00Z');

describe("a system administrator's key", () => {
  it('opens the installation and no business, and is kept as a hash alone', async () => {
    const { key, key_id } = await createSystemKey(fixture.db, { label: ' night shift ' }, actor);
    expect(key).toMatch(new RegExp(`^ck_system_${key_id}_[A-Za-z0-9_-]{32}$`));
    expect(await authenticateSystem(fixture.db, key)).toEqual({ key_id });
    expect(await authenticate(fixture.db, key)).toEqual({ principal: null, refused: null });
    const [row] = await fixture.rows('SELECT * FROM carillon.system_keys WHERE key_id = $1', [key_id]);
    const secret_hash = createHash('sha256').update(key.slice(-32)).digest();
    expect(row).toMatchObject({ label: 'night shift', secret_hash });
    expect(JSON.stringify(row)).not.toContain(key.slice(-32));
  });

  it('opens nothing when it is malformed, another, expired or revoked, all by the same one look-up', async () => {
    const { key, key_id } = await createSystemKey(fixture.db, {}, actor);
    const other = await createSystemKey(fixture.db, { expires_at: past }, actor);
    const gone = await createSystemKey(fixture.db, {}, actor);
    await revokeSystemKey(fixture.db, gone.key_id, actor);
    const bad = [
      'ck_system_',
      `${key} `,
      `${key}A`,
      `ck_system_0_${'A'.repeat(32)}`,
      `ck_system_987654_${key.slice(-32)}`,
    ];
    bad.push(
      `ck_system_${key_id}_${'A'.repeat(32)}`,
      `ck_system_${other.key_id}_${key.slice(-32)}`,
      other.key,
      gone.key,
    );
    for (const text of bad) {
      const { taken } = fixture.db.connections();
      expect(await authenticateSystem(fixture.db, text), text).toBeNull();
      expect(fixture.db.connections().taken).toBe(taken + 1);
    }
  });

  it('is listed without its secret, and made and revoked with an event of the installation', async () => {
    const { key_id, key } = await createSystemKey(fixture.db, { label: 'listed' }, actor);
    const first = await revokeSystemKey(fixture.db, key_id, actor);
    expect(await revokeSystemKey(fixture.db, key_id, actor)).toEqual(first);
    const page = await listSystemKeys(fixture.db, { limit: 1 });
    expect(page.items).toMatchObject([{ key_id, label: 'listed', state: 'revoked' }]);
    expect(Number(page.next)).toBe(key_id);
    expect(JSON.stringify(page)).not.toContain(key.slice(-32));
    const events = await fixture.rows(
      "SELECT action, actor FROM carillon.installation_events WHERE subject_type = 'system_key' AND subject_id = $1 ORDER BY event_id",
      [String(key_id)],
    );
    expect(events).toEqual([
      { action: 'system_key.created', actor: 'test' },
      { action: 'system_key.revoked', actor: 'test' },
    ]);
    const absent = revokeSystemKey(fixture.db, SystemKeyId.parse(987_654), actor);
    await expect(absent).rejects.toMatchObject({ code: 'key_not_found' });
  });
});

describe('an entry into a business', () => {
  const enter = async (business_id = ours, minutes = 60, reason = 'ticket 4711') => {
    const system = await createSystemKey(fixture.db, {}, actor);
    const by = { name: `system_admin:${system.key_id}`, user_id: null };
    return { system, entry: await enterBusiness(fixture.db, business_id, system, { reason, minutes }, by) };
  };

  it('is a key of that business for a while, and no other may be made as one', async () => {
    const { system, entry } = await enter();
    expect(await authenticate(fixture.db, entry.key)).toMatchObject({
      principal: { business_id: ours, role: 'system_admin', entered_by: system.key_id },
    });
    const [row] = await fixture.rows<{ minutes: string }>(
      'SELECT extract(epoch FROM expires_at - created_at) / 60 AS minutes FROM carillon.api_keys WHERE key_id = $1',
      [entry.key_id],
    );
    expect(Number(row?.minutes)).toBeCloseTo(60, 3);
    const role = 'system_admin' as unknown as 'owner';
    await expect(createKey(fixture.db, ours, { role }, actor)).rejects.toThrow('api_keys_entry');
    await expect(enter(ours, 481)).rejects.toThrow('api_keys_entry');
  });

  it('stands in the trail of the business, and of the installation, with who, why and until when', async () => {
    const { system, entry } = await enter(ours, 5, 'The owner asked us to look at run 12');
    const expected = {
      action: 'business.entered',
      actor: `system_admin:${system.key_id}`,
      subject_type: 'business',
      subject_id: String(ours),
      after: { reason: 'The owner asked us to look at run 12', key_id: entry.key_id, expires_at: entry.expires_at },
    };
    const what = 'SELECT action, actor, subject_type, subject_id, after FROM carillon.';
    const last = "WHERE action = 'business.entered' ORDER BY event_id DESC LIMIT 1";
    const in_business = await fixture.rows(`${what}audit_events ${last}`);
    const in_installation = await fixture.rows(`${what}installation_events ${last}`);
    expect([...in_business, ...in_installation]).toEqual([expected, expected]);
  });

  it("ends with the administrator's own key, and when the business revokes it", async () => {
    const { system, entry } = await enter();
    await revokeSystemKey(fixture.db, system.key_id, actor);
    expect(await authenticate(fixture.db, entry.key)).toMatchObject({ refused: { reason: 'revoked' } });
    const another = await enter();
    await revokeKey(fixture.db, ours, KeyId.parse(another.entry.key_id), actor);
    expect(await authenticate(fixture.db, another.entry.key)).toMatchObject({ refused: { reason: 'revoked' } });
    const late = await enter();
    await fixture.rows('UPDATE carillon.system_keys SET expires_at = $2 WHERE key_id = $1', [late.system.key_id, past]);
    expect(await authenticate(fixture.db, late.entry.key)).toMatchObject({ refused: { reason: 'expired' } });
  });

  it("does not stand for the owner's key", async () => {
    const { business_id, key_id } = await createBusiness(fixture.db, { name: 'alone' }, actor);
    await enter(business_id);
    await expect(revokeKey(fixture.db, business_id, key_id, actor)).rejects.toMatchObject({ code: 'last_owner_key' });
  });

  it('is refused where there is no business, and with a phone number for a reason; nothing is left of either', async () => {
    const count = () =>
      fixture.rows(`SELECT (SELECT count(*) FROM carillon.api_keys) AS keys,
        (SELECT count(*) FROM carillon.installation_events WHERE action = 'business.entered') AS events`);
    const before = await count();
    await expect(enter(BusinessId.parse(987_654))).rejects.toMatchObject({ code: 'business_not_found' });
    for (const reason of ['she called from 052-123-4567', 'call +44 20 7946 0958 back', 'a\0b'])
      await expect(enter(ours, 60, reason)).rejects.toMatchObject({ code: 'invalid_request' });
    expect(await count()).toEqual(before);
  });
});

it('lists businesses by name and number alone, without the canaries of the readiness check', async () => {
  await fixture.rows("INSERT INTO carillon.businesses (name, canary) VALUES ('canary', true)");
  const { business_id } = await createBusiness(fixture.db, { name: 'last' }, actor);
  const all = [];
  for (let next: BusinessId | undefined = BusinessId.parse(1), pages = 0; next; pages++) {
    const page: Awaited<ReturnType<typeof listBusinesses>> = await listBusinesses(fixture.db, {
      limit: 1,
      after: pages === 0 ? undefined : next,
    });
    all.push(...page.items);
    next = page.next === null ? undefined : BusinessId.parse(page.next);
  }
  expect(all.at(-1)).toEqual({ business_id, name: 'last' });
  expect(all.map(({ name }) => name)).toContain('ours');
  expect(all.map(({ name }) => name)).not.toContain('canary');
});
