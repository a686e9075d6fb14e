import { BusinessId, KeyId } from '@carillon/contract';
import { createKey, localActor } from '@carillon/engine';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Caller, createCaller, createFixture, type Fixture, securityLines, startRun } from './support/api.ts';

const actor = localActor('test');
let fixture: Fixture;
let caller: Caller;
let stranger: Caller;
beforeAll(async () => {
  fixture = await createFixture();
  caller = await createCaller(fixture);
  stranger = await createCaller(fixture);
});
afterAll(async () => await fixture.close());

it('logs who came without a key and who tried too much, and never the key', async () => {
  fixture.logs.length = 0;
  await fixture.ask('ck_1_1_someSecretOfSomebody', 'GET', '/api/lists');
  await fixture.ask(caller.agent, 'POST', '/api/lists', { payload: { name: 'x' } });
  expect(securityLines(fixture, 'unauthenticated')).toMatchObject([{ key: 'refused', route: '/api/lists' }]);
  expect(securityLines(fixture, 'forbidden')).toMatchObject([{ role: 'agent', business_id: caller.business_id }]);
  expect(JSON.stringify(fixture.logs)).not.toContain('someSecretOfSomebody');
  expect(JSON.stringify(fixture.logs)).not.toContain(caller.agent);
});

it("logs an id that is not visible, another business's as one that nobody has", async () => {
  const run = await startRun(fixture, stranger);
  for (const run_id of [run.run_id, 987_654_321]) {
    fixture.logs.length = 0;
    await fixture.ask(caller.owner, 'GET', `/api/outbound/runs/${run_id}`);
    const line = { code: 'run_not_found', business_id: caller.business_id, ids: { run_id: String(run_id) } };
    expect(securityLines(fixture, 'id_not_visible')).toMatchObject([line]);
  }
});

it('takes an id that can not be one for one that is not there', async () => {
  for (const id of ['abc', '0', '-1', '1.5', '0x10', '1e3', '99999999999999999999', '%20']) {
    const { status, json } = await fixture.ask(caller.owner, 'GET', `/api/outbound/runs/${id}`);
    expect({ id, status, code: json.code }).toEqual({ id, status: 404, code: 'run_not_found' });
  }
  const job = await fixture.ask(caller.owner, 'POST', '/api/outbound_calls/jobs/x-1/cancel');
  expect(job.json.code).toBe('job_not_found');
});

it('lets one key ask so often and no more in a minute, each key by itself', async () => {
  const strict = await createFixture({ api_limits: { requests_per_minute: 2 } });
  try {
    const { business_id, key: first } = await newBusinessKey(strict);
    const { key: second } = await createKey(strict.db, business_id, { role: 'agent' }, actor);
    const codes = [];
    for (const key of [first, first, first, second]) codes.push((await strict.ask(key, 'GET', '/api/lists')).status);
    expect(codes).toEqual([200, 200, 429, 200]);
    const { json, headers } = await strict.ask(first, 'GET', '/api/lists');
    expect(json).toMatchObject({ code: 'too_many_requests', details: { limit: 2 } });
    expect(Number(headers['retry-after'])).toBeGreaterThan(0);
  } finally {
    await strict.close();
  }
});

async function newBusinessKey(on: Fixture) {
  const [row] = await on.rows<{ id: string }>(
    "INSERT INTO carillon.businesses (name) VALUES ('Busy') RETURNING business_id AS id",
  );
  const business_id = BusinessId.parse(row?.id);
  const { key, key_id } = await createKey(on.db, business_id, { role: 'agent' }, actor);
  return { business_id, key, key_id: KeyId.parse(key_id) };
}
