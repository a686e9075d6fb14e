import { BusinessId, KeyId } from '@carillon/contract';
import { createKey, localActor, revokeKey } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  accountBody,
  type Caller,
  createCaller,
  createFixture,
  csv,
  type Fixture,
  securityLines,
  startRun,
} from './support/api.ts';

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

type Method = 'GET' | 'POST';
interface Route {
  method: Method;
  url: string;
  may: ('agent' | 'admin' | 'owner')[];
  /** A request that would work. */
  request?: () => Parameters<Fixture['ask']>[3];
}

const startBody = (list_id: number) => ({ list_id, carrier_account_id: caller.carrier_account_id });

const READ: Route['may'] = ['agent', 'admin', 'owner'];
const MANAGE: Route['may'] = ['admin', 'owner'];

/** Every keyed route, with who may use it by interface.md. Ids are ones that don't exist: 404 means "may, but is not there". */
const ROUTES: Route[] = [
  { method: 'GET', url: '/api/lists', may: READ },
  { method: 'POST', url: '/api/lists', may: MANAGE, request: () => ({ payload: { name: 'x' } }) },
  { method: 'GET', url: '/api/lists/999999/leads', may: READ },
  { method: 'POST', url: '/api/lists/999999/import', may: MANAGE, request: () => csv(1) },
  { method: 'GET', url: '/api/imports/999999/rejected.csv', may: MANAGE },
  { method: 'POST', url: '/api/leads', may: MANAGE, request: () => ({ payload: { phone: '0521112233' } }) },
  { method: 'GET', url: '/api/carrier_accounts', may: ['owner'] },
  { method: 'POST', url: '/api/carrier_accounts', may: ['owner'], request: () => ({ payload: accountBody() }) },
  { method: 'POST', url: '/api/carrier_accounts/999999/resume', may: ['owner'] },
  { method: 'POST', url: '/api/outbound_calls/start', may: MANAGE, request: () => ({ payload: startBody(999999) }) },
  { method: 'GET', url: '/api/outbound/runs', may: READ },
  { method: 'GET', url: '/api/outbound/runs/999999', may: READ },
  { method: 'GET', url: '/api/outbound/runs/999999/events', may: READ },
  { method: 'GET', url: '/api/outbound/runs/999999/jobs', may: READ },
  { method: 'GET', url: '/api/outbound/runs/999999/jobs/999999-1', may: READ },
  { method: 'POST', url: '/api/outbound/runs/999999/pause', may: MANAGE },
  { method: 'POST', url: '/api/outbound/runs/999999/resume', may: MANAGE },
  { method: 'POST', url: '/api/outbound/stop-queue', may: MANAGE, request: () => ({ payload: { run_id: 999999 } }) },
  { method: 'POST', url: '/api/outbound_calls/jobs/999999-1/cancel', may: MANAGE },
  { method: 'POST', url: '/api/outbound_calls/jobs/999999/cancel', may: MANAGE },
  { method: 'GET', url: '/api/outbound_calls/counts', may: READ },
];

it('knows every keyed route: one that is added must be added here', async () => {
  const described: { paths: Record<string, Record<string, { security: unknown[] }>> } = (
    await fixture.app.inject('/openapi.json')
  ).json();
  const keyed = Object.entries(described.paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, { security }]) =>
      security.length > 0 ? [`${method.toUpperCase()} ${path.replaceAll(/\{\w+\}/g, '*')}`] : [],
    ),
  );
  const tried = ROUTES.map(({ method, url }) => `${method} ${url.replaceAll(/999999(-1)?/g, '*')}`);
  expect(keyed.toSorted()).toEqual([...new Set(tried)].toSorted());
});

describe.each(ROUTES)('$method $url', ({ method, url, may, request }) => {
  it('asks for a key, and gives the same answer to every kind of bad one', async () => {
    const { key: revoked, key_id } = await createKey(fixture.db, caller.business_id, { role: 'owner' }, actor);
    await revokeKey(fixture.db, caller.business_id, key_id, actor);
    const { key: expired } = await createKey(
      fixture.db,
      caller.business_id,
      { role: 'owner', expires_at: new Date('2020-01-01T00:00:00Z') },
      actor,
    );
    const [, business, id] = caller.owner.split('_');
    const unknown = `ck_${business}_${id}_${'A'.repeat(32)}`;
    const elsewhere = caller.owner.replace(`ck_${business}_`, `ck_${stranger.business_id}_`);
    const bodies = new Set<string>();
    for (const key of [null, 'nonsense', revoked, expired, unknown, elsewhere, `${caller.owner}x`]) {
      const answer = await fixture.ask(key, method, url, request?.() ?? {});
      expect(answer.status).toBe(401);
      expect(answer.headers['www-authenticate']).toBe('Bearer');
      bodies.add(JSON.stringify({ ...answer.json, request_id: '' }));
    }
    expect(bodies.size).toBe(1);
  });

  it(`lets in ${may.join(', ')} and nobody else`, async () => {
    for (const role of READ) {
      const { status, json } = await fixture.ask(caller[role as 'agent'], method, url, request?.() ?? {});
      if (may.includes(role)) expect([200, 201, 404]).toContain(status);
      else {
        expect(status).toBe(403);
        expect(json).toMatchObject({ code: 'forbidden', details: { role } });
      }
    }
  });
});

it('logs who came without a key and who tried too much, and never the key', async () => {
  fixture.logs.length = 0;
  await fixture.ask('ck_1_1_someSecretOfSomebody', 'GET', '/api/lists');
  await fixture.ask(caller.agent, 'POST', '/api/lists', { payload: { name: 'x' } });
  expect(securityLines(fixture, 'unauthenticated')).toMatchObject([{ key: 'refused', route: '/api/lists' }]);
  expect(securityLines(fixture, 'forbidden')).toMatchObject([{ role: 'agent', business_id: caller.business_id }]);
  expect(JSON.stringify(fixture.logs)).not.toContain('someSecretOfSomebody');
  expect(JSON.stringify(fixture.logs)).not.toContain(caller.agent);
});

describe('a wall between businesses', () => {
  /** Each request twice, with an id of the stranger and with one that nobody has; what differs is a leak. */
  const ABSENT = 987_654_321;
  interface Foreign {
    name: string;
    method: Method;
    code: string;
    ask: (ids: { run: number; list: number; account: number; lead: number; import: number }) => {
      url: string;
      payload?: object;
      headers?: Record<string, string>;
    };
  }
  const REQUESTS: Foreign[] = [
    { name: 'a run', method: 'GET', code: 'run_not_found', ask: ({ run }) => ({ url: `/api/outbound/runs/${run}` }) },
    {
      name: "a run's events",
      method: 'GET',
      code: 'run_not_found',
      ask: ({ run }) => ({ url: `/api/outbound/runs/${run}/events` }),
    },
    {
      name: "a run's jobs",
      method: 'GET',
      code: 'run_not_found',
      ask: ({ run }) => ({ url: `/api/outbound/runs/${run}/jobs` }),
    },
    {
      name: 'a job',
      method: 'GET',
      code: 'job_not_found',
      ask: ({ run }) => ({ url: `/api/outbound/runs/${run}/jobs/${run}-1` }),
    },
    {
      name: 'pausing',
      method: 'POST',
      code: 'run_not_found',
      ask: ({ run }) => ({ url: `/api/outbound/runs/${run}/pause` }),
    },
    {
      name: 'resuming',
      method: 'POST',
      code: 'run_not_found',
      ask: ({ run }) => ({ url: `/api/outbound/runs/${run}/resume` }),
    },
    {
      name: 'stopping',
      method: 'POST',
      code: 'queue_not_found',
      ask: ({ run }) => ({ url: '/api/outbound/stop-queue', payload: { run_id: run } }),
    },
    {
      name: 'cancelling a job',
      method: 'POST',
      code: 'job_not_found',
      ask: ({ run }) => ({ url: `/api/outbound_calls/jobs/${run}-1/cancel` }),
    },
    {
      name: "cancelling by a run's id",
      method: 'POST',
      code: 'run_not_found',
      ask: ({ run }) => ({ url: `/api/outbound_calls/jobs/${run}/cancel` }),
    },
    {
      name: "a list's leads",
      method: 'GET',
      code: 'list_not_found',
      ask: ({ list }) => ({ url: `/api/lists/${list}/leads` }),
    },
    {
      name: 'importing',
      method: 'POST',
      code: 'list_not_found',
      ask: ({ list }) => ({ url: `/api/lists/${list}/import`, ...(csv(1) as { payload: object }) }),
    },
    {
      name: 'rejected lines',
      method: 'GET',
      code: 'import_not_found',
      ask: (ids) => ({ url: `/api/imports/${ids.import}/rejected.csv` }),
    },
    {
      name: 'resuming an account',
      method: 'POST',
      code: 'carrier_account_not_found',
      ask: ({ account }) => ({ url: `/api/carrier_accounts/${account}/resume` }),
    },
    {
      name: 'starting over a list',
      method: 'POST',
      code: 'list_not_found',
      ask: ({ list }) => ({ url: '/api/outbound_calls/start', payload: startBody(list) }),
    },
    {
      name: 'starting over leads',
      method: 'POST',
      code: 'lead_not_found',
      ask: ({ lead }) => ({
        url: '/api/outbound_calls/start',
        payload: { ...startBody(1), list_id: undefined, lead_ids: [lead] },
      }),
    },
    {
      name: 'starting through an account',
      method: 'POST',
      code: 'carrier_account_not_found',
      ask: ({ account }) => ({
        url: '/api/outbound_calls/start',
        payload: { list_id: caller.list_id, carrier_account_id: account },
      }),
    },
  ];

  it.each(REQUESTS)('$name: what is foreign and what is absent get the same answer to the byte', async (request) => {
    const run = await startRun(fixture, stranger);
    const page = await fixture.ask(stranger.agent, 'GET', `/api/lists/${stranger.list_id}/leads?limit=1`);
    const [lead] = page.json.items as { lead_id: number }[];
    const [imported] = await fixture.rows<{ import_id: string }>(
      'SELECT import_id FROM carillon.list_imports WHERE business_id = $1',
      [stranger.business_id],
    );
    const foreign = {
      run: run.run_id,
      list: stranger.list_id,
      account: stranger.carrier_account_id,
      lead: lead?.lead_id ?? 0,
      import: Number(imported?.import_id),
    };
    const absent = { run: ABSENT, list: ABSENT, account: ABSENT, lead: ABSENT, import: ABSENT };
    const before = await fixture.rows('SELECT * FROM carillon.outbound_call_runs WHERE run_id = $1', [run.run_id]);
    fixture.logs.length = 0;
    const answers = [];
    for (const ids of [foreign, absent]) {
      const { url, ...more } = request.ask(ids);
      answers.push(await fixture.ask(caller.owner, request.method, url, more));
    }
    const [to_foreign, to_absent] = answers;
    expect(to_foreign).toMatchObject({ status: 404, json: { code: request.code } });
    expect(blankIds(to_foreign?.text)).toBe(blankIds(to_absent?.text));
    expect(blankIds(JSON.stringify(to_foreign?.headers))).toBe(blankIds(JSON.stringify(to_absent?.headers)));
    const line = { code: request.code, business_id: caller.business_id };
    expect(securityLines(fixture, 'id_not_visible')).toMatchObject([line, line]);
    expect(await fixture.rows('SELECT * FROM carillon.outbound_call_runs WHERE run_id = $1', [run.run_id])).toEqual(
      before,
    );
  });

  it('shows in lists only what is its own', async () => {
    const run = await startRun(fixture, stranger);
    const runs = await fixture.ask(caller.agent, 'GET', '/api/outbound/runs?limit=500');
    expect((runs.json.items as { run_id: number }[]).map((one) => one.run_id)).not.toContain(run.run_id);
    const lists = await fixture.ask(caller.agent, 'GET', '/api/lists?limit=500');
    expect((lists.json.items as { list_id: number }[]).map((one) => one.list_id)).not.toContain(stranger.list_id);
    const accounts = await fixture.ask(caller.owner, 'GET', '/api/carrier_accounts?limit=500');
    const ids = (accounts.json.items as { carrier_account_id: number }[]).map((one) => one.carrier_account_id);
    expect(ids).toContain(caller.carrier_account_id);
    expect(ids).not.toContain(stranger.carrier_account_id);
  });

  it('takes an id that can not be one for one that is not there', async () => {
    for (const id of ['abc', '0', '-1', '1.5', '0x10', '1e3', '99999999999999999999', '%20']) {
      const { status, json } = await fixture.ask(caller.owner, 'GET', `/api/outbound/runs/${id}`);
      expect({ id, status, code: json.code }).toEqual({ id, status: 404, code: 'run_not_found' });
    }
    const job = await fixture.ask(caller.owner, 'POST', '/api/outbound_calls/jobs/x-1/cancel');
    expect(job.json.code).toBe('job_not_found');
  });
});

/** Request ids, times and the like differ between any two answers. */
function blankIds(text: string | undefined): string {
  return (text ?? '')
    .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '…')
    .replaceAll(/\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT/g, '…');
}

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
