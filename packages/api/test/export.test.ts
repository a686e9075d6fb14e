import { get } from 'node:http';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { type Caller, createCaller, createFixture, type Fixture, startRun } from './support/api.ts';

let fixture: Fixture;
let caller: Caller;
beforeAll(async () => {
  fixture = await createFixture();
  caller = await createCaller(fixture);
});
afterAll(async () => await fixture.close());

const url = (run_id: number, query = '') => `/api/outbound/runs/${run_id}/export.csv${query}`;

/** A run of many leads, larger than what lies in sockets and pipes. */
async function bigRun(leads: number): Promise<number> {
  const run = await startRun(fixture, caller);
  await fixture.rows(
    `WITH people AS (
       INSERT INTO carillon.leads (business_id, phone, name, attributes)
       SELECT $1, '+97255' || lpad(n::text, 7, '0'), repeat('x', 150), jsonb_build_object('note', repeat('y', 1500))
       FROM generate_series(1, $3::int) n RETURNING lead_id)
     INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id)
     SELECT $1, $2, 3 + row_number() OVER (), lead_id FROM people`,
    [caller.business_id, run.run_id, leads],
  );
  await fixture.rows(
    'UPDATE carillon.outbound_call_runs SET total_leads = 3 + $2, queued = 3 + $2, filled_seq = 3 + $2 WHERE run_id = $1',
    [run.run_id, leads],
  );
  return run.run_id;
}

/** A number that is not 0 and has not changed in twenty looks. */
async function standsStill(count: () => number): Promise<number> {
  let [last, times] = [0, 0];
  return await until(
    () => {
      times = count() === last ? times + 1 : 0;
      last = count();
      return times >= 20 && last;
    },
    { deadline_ms: 60_000, every_ms: 50, what: 'the export waits for its reader' },
  );
}

describe('GET export.csv', () => {
  it('answers with a file, in the language that is asked for', async () => {
    const { run_id } = await startRun(fixture, caller);
    const answer = await fixture.ask(caller.admin, 'GET', url(run_id));
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({
      'content-type': 'text/csv; charset=utf-8',
      'content-disposition': `attachment; filename="run-${run_id}.csv"`,
      'content-language': 'en',
    });
    expect(answer.text.split('\r\n')).toHaveLength(1 + 3 + 1);
    const header = async (query: string, accept?: string) => {
      const headers = accept === undefined ? {} : { 'accept-language': accept };
      const { text } = await fixture.ask(caller.admin, 'GET', url(run_id, query), { headers });
      return text.slice(1, 6);
    };
    expect(await header('', 'he-IL,en;q=0.5')).toBe('מספר,');
    expect(await header('?lang=he')).toBe('מספר,');
    expect(await header('?lang=en', 'he')).toBe('seq,l');
    const refused = await fixture.ask(caller.admin, 'GET', url(run_id, '?lang=fr'));
    expect([refused.status, refused.json.code]).toEqual([422, 'invalid_request']);
  });

  it('reads no further than its reader does, and stops when that one leaves', { timeout: 120_000 }, async () => {
    const leads = 30_000;
    const run_id = await bigRun(leads);
    const spy = vi.spyOn(pg.Client.prototype, 'query');
    const pages = () => spy.mock.calls.filter(([sent]) => JSON.stringify(sent ?? '').includes('waits_for')).length;
    await fixture.app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = fixture.app.server.address() as AddressInfo;
    const asked = Promise.withResolvers<NodeJS.ReadableStream>();
    const headers = { authorization: `Bearer ${caller.admin}` };
    const request = get({ host: '127.0.0.1', port, path: url(run_id), headers }, (response) => asked.resolve(response));
    request.on('error', () => {});
    const response = await asked.promise;
    response.pause();
    // What the sockets take is taken; then it stands still, long before the end, until somebody reads on.
    const taken = await standsStill(pages);
    expect(taken).toBeLessThan(leads / 1_000 / 2);
    request.destroy();
    const connections = () => new Promise<number>((resolve) => fixture.app.server.getConnections((_, n) => resolve(n)));
    await until(async () => (await connections()) === 0, { deadline_ms: 30_000, what: 'the connection is given up' });
    expect(await standsStill(pages)).toBeLessThanOrEqual(taken + 1);
  });
});
