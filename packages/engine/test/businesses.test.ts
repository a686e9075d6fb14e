import { BusinessId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readBusiness } from '../src/business/business.ts';
import { createBusiness } from '../src/business/create-business.ts';
import { authenticate } from '../src/business/keys.ts';
import { inBusiness } from '../src/db/database.ts';
import { actor, createFixture, type Fixture } from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

describe('createBusiness', () => {
  it('makes a business with an owner, in Israel and Hebrew unless told otherwise', async () => {
    const { business_id, key } = await createBusiness(fixture.db, { name: ' Clinic ' }, actor);
    expect(await inBusiness(fixture.db, business_id, readBusiness)).toEqual({
      name: 'Clinic',
      country: 'IL',
      language: 'he',
      time_zone: 'Asia/Jerusalem',
    });
    expect(await authenticate(fixture.db, key)).toMatchObject({
      principal: { business_id, role: 'owner', language: 'he' },
    });

    const other = await createBusiness(
      fixture.db,
      { name: 'Clinic', country: 'gb', language: 'en', time_zone: 'Europe/London' },
      actor,
    );
    expect(other.business_id).not.toBe(business_id);
    expect(await inBusiness(fixture.db, other.business_id, readBusiness)).toMatchObject({
      country: 'GB',
      language: 'en',
      time_zone: 'Europe/London',
    });
  });

  it.each([
    [{ name: '  ' }, '1 to 200 characters'],
    [{ name: 'x'.repeat(201) }, '1 to 200 characters'],
    [{ name: 'a\0b' }, '1 to 200 characters'],
    [{ name: 'a', country: 'XX' }, '"XX"'],
    [{ name: 'a', time_zone: 'Asia/Atlantis' }, '"Asia/Atlantis"'],
    [{ name: 'a', time_zone: '+02:00' }, '"+02:00"'],
  ])('refuses %o and leaves nothing', async (input, words) => {
    const before = await fixture.rows('SELECT count(*) FROM carillon.businesses');
    await expect(createBusiness(fixture.db, input, actor)).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining(words),
    });
    expect(await fixture.rows('SELECT count(*) FROM carillon.businesses')).toEqual(before);
  });

  it('leaves no business without its key', async () => {
    await fixture.rows('ALTER TABLE carillon.api_keys ADD CONSTRAINT never CHECK (false) NOT VALID');
    const before = await fixture.rows('SELECT count(*) FROM carillon.businesses');
    await expect(createBusiness(fixture.db, { name: 'a' }, actor)).rejects.toThrow('never');
    expect(await fixture.rows('SELECT count(*) FROM carillon.businesses')).toEqual(before);
    await fixture.rows('ALTER TABLE carillon.api_keys DROP CONSTRAINT never');
  });
});

it('sees no business but its own', async () => {
  const one = await createBusiness(fixture.db, { name: 'one' }, actor);
  const two = await createBusiness(fixture.db, { name: 'two' }, actor);
  const seen = await inBusiness(fixture.db, one.business_id, (tx) => tx.query('SELECT name FROM carillon.businesses'));
  expect(seen).toEqual([{ name: 'one' }]);
  const foreign = inBusiness(fixture.db, one.business_id, (tx) =>
    readBusiness({ ...tx, business_id: two.business_id }),
  );
  await expect(foreign).rejects.toMatchObject({ code: 'invalid_request' });
  const absent = inBusiness(fixture.db, BusinessId.parse(987_654), readBusiness);
  await expect(absent).rejects.toMatchObject({ message: expect.stringContaining('no business 987654') });
});
