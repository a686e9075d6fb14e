import { ReadinessReport } from '@carillon/contract';
import { createSystemKey, defaultLimits, localActor } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import {
  type Caller,
  callbackPath,
  claimAttempts,
  createCaller,
  createFixture,
  type Fixture,
  signed,
  startRun,
  statusForm,
} from './support/api.ts';

let fixture: Fixture;
let caller: Caller;
let other: Caller;
beforeAll(async () => {
  // Nobody works here, so a short lease keeps the check of the installation short.
  fixture = await createFixture({ limits: { ...defaultLimits, lease_ttl_ms: 500 } });
  caller = await createCaller(fixture, 3);
  other = await createCaller(fixture, 5);
  await startRun(fixture, caller);
  await startRun(fixture, other);
});
afterAll(() => fixture.close());

const heardFrom = async ({ business_id }: Caller): Promise<boolean> => {
  const rows = await fixture.rows(
    'SELECT 1 FROM carillon.carrier_accounts WHERE business_id = $1 AND last_callback_at IS NOT NULL',
    [business_id],
  );
  return rows.length === 1;
};

const ask = async (key: string) => {
  const { status, json } = await fixture.ask(key, 'GET', '/api/readiness');
  expect(status).toBe(200);
  return ReadinessReport.parse(json);
};

describe('GET /api/readiness', () => {
  it.each(['owner', 'admin', 'agent'] as const)('shows an %s its own business, and nothing else', async (role) => {
    const report = await ask(caller[role]);
    expect(report).toMatchObject({ ok: true, scope: 'business' });
    expect(report.points).toMatchObject([{ point: 'cursor', evidence: { runs_counted: 1, jobs_counted: 3 } }]);
    expect(report.beyond.map(({ point }) => point)).toEqual(['leases', 'backlog', 'credentials', 'carriers']);
    const text = JSON.stringify(report);
    expect(text).not.toContain(`"business_id":${other.business_id}`);
    for (const secret of ['AC', 'token', '+972', 'carillon.', 'worker_id']) expect(text).not.toContain(secret);
  });

  it("gives a system administrator the installation's report, once for all who ask at the same time", async () => {
    const { key } = await createSystemKey(fixture.db, { label: 'test' }, localActor('test'));
    const [report, same] = await Promise.all([ask(key), ask(key)]);
    expect(same.checked_at).toBe(report.checked_at);
    expect(report.scope).toBe('installation');
    expect(report.points.map(({ point, ok }) => `${point} ${ok}`)).toEqual([
      'migrations true',
      'constraint true',
      'cancel true',
      'isolation true',
      'cursor true',
      'reclaim false',
      'invariants true',
    ]);
    expect(await fixture.rows('SELECT 1 FROM carillon.businesses WHERE canary')).toEqual([]);
    const { text } = await fixture.ask(null, 'GET', '/metrics');
    expect(text).toMatch(/^carillon_readiness_ok\{point="reclaim"\} 0$/m);
    expect(text).toMatch(/^carillon_readiness_ok\{point="isolation"\} 1$/m);
    expect(text).toMatch(/^carillon_readiness_cancel_seconds 0\.\d+$/m);
    expect(text).toMatch(/^carillon_readiness_checked_timestamp_seconds 1\d{9}(\.\d+)?$/m);
  });
});

it('notes that a carrier has called back when the callback bears its signature, and only then', async () => {
  const run = await startRun(fixture, caller);
  const [attempt] = await claimAttempts(fixture, run.run_id);
  if (!attempt) throw new Error('nothing was claimed');
  const path = callbackPath('status', attempt);
  const form = statusForm('CA1', 'ringing');
  const post = (options: object) => fixture.ask(null, 'POST', path, options);
  expect((await post(signed(path, form, 'another secret'))).status).toBe(403);
  expect((await post(signed(path, form))).status).toBe(204);
  await until(() => heardFrom(caller), { deadline_ms: 30_000, what: 'the note of the callback' });
  expect(await heardFrom(other)).toBe(false);
});
