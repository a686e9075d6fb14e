import type { CarrierCall, CarrierDriver, CarrierDrivers } from '@carillon/contract';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { CarrierAccess } from '../src/index.ts';
import { expectFound } from './support/broken.ts';
import { type AuditedRun, createWorld, finishedRun, JOBS, openRun, type World } from './support/world.ts';

let world: World;
let run: AuditedRun;
beforeAll(async () => void (world = await createWorld()));
afterAll(async () => await world.close());

interface Listed {
  to: string;
  from: string;
  call: CarrierCall;
}
/** The carrier's own books, as it shows them. */
let books: Listed[];
let asked: string[];

beforeEach(async () => {
  run = await finishedRun(world);
  books = await booksOf(run);
  asked = [];
});

async function booksOf({ run_id }: AuditedRun): Promise<Listed[]> {
  const rows = await world.rows<{ call_id: string; phone: string; from_number: string; intent_us: string }>(
    `SELECT call_id, phone, from_number, intent_us FROM carillon.attempts JOIN carillon.leads USING (business_id, lead_id)
     WHERE run_id = $1 AND call_id IS NOT NULL
     UNION ALL
     SELECT call_id, phone, from_number, intent_us FROM carillon.open_attempts
     JOIN carillon.leads USING (business_id, lead_id) WHERE run_id = $1 AND call_id IS NOT NULL`,
    [run_id],
  );
  return rows.map(({ call_id, phone, from_number, intent_us }) => ({
    to: phone,
    from: from_number,
    call: listed(call_id, Math.floor(Number(intent_us) / 1_000_000)),
  }));
}

const listed = (call_id: string, created_at_s: number): CarrierCall => ({
  call_id,
  phase: 'ended',
  outcome: 'completed',
  duration_s: 1,
  created_at_s,
  cause: null,
});

/** A driver that shows the books; `find` may be made to fail. */
function access(
  options: { fail?: boolean; numbers_most?: number; driver?: string; secret?: boolean } = {},
): CarrierAccess {
  const never = () => {
    throw new Error('an auditor places, answers and ends no call');
  };
  const driver: CarrierDriver = {
    name: 'fake',
    capabilities: () => ({
      effect_delay_ms: 1_000,
      listing_delay_ms: 1_000,
      expiring_create: false,
      hang_up_while_queued: true,
      created_at_resolution_ms: 1_000,
    }),
    async find(_, wanted) {
      asked.push(wanted.to);
      if (options.fail) return { kind: 'error', cause: 'http_503' };
      const calls = books.filter(({ to, from }) => to === wanted.to && from === wanted.from).map(({ call }) => call);
      return { kind: 'listed', calls };
    },
    async fetchCall(_, call_id) {
      const found = books.find(({ call }) => call.call_id === call_id);
      return found ? { kind: 'call', call: found.call } : { kind: 'absent' };
    },
    place: never,
    hangUp: never,
    verify: never,
    readEvent: never,
    answer: never,
    hangUpAnswer: never,
  };
  const drivers: CarrierDrivers = new Map([[options.driver ?? 'fake', driver]]);
  return {
    drivers,
    numbers_most: options.numbers_most ?? 100,
    async credentials() {
      if (options.secret === false) throw new Error('the secret does not open');
      return { driver: 'fake', base_url: '', account_sid: 'AC', auth_token: 'secret' };
    },
  };
}

const judged = async (options: Parameters<typeof access>[0] = {}) =>
  await world.audit({ business_id: run.business_id, carrier: access(options) });

describe('the carrier’s list', () => {
  it('is in order when it holds the calls that the attempts name', async () => {
    const report = await judged();
    expect(report).toMatchObject({ ok: true, violations: [], incomplete: [], checked: { carrier_numbers: 10 } });
    // Each number once, those of refused and absent attempts as well: that is where a call would be that nobody knows of.
    expect(asked.length).toBe(10);
  });

  it('without a call that an attempt names is not', async () => {
    const [gone] = books.splice(0, 1);
    const { violations } = await judged();
    expectFound(violations, run, [
      { invariant: 2, job: JOBS.answered, attempt: 1, what: /names call A\d+, which the carrier does not have/ },
    ]);
    expect(violations[0]?.evidence).toMatchObject({ call_id: gone?.call.call_id });
  });

  it('with a call that no attempt names is not, unless it is older than all of them', async () => {
    const [like] = books;
    if (!like) throw new Error('no call');
    const stray = (created_at_s: number) => ({ ...like, call: listed('CA-stray', created_at_s) });
    const now_s = like.call.created_at_s ?? 0;
    books.push(stray(now_s + 1));
    const { violations } = await judged();
    expectFound(violations, run, [
      { invariant: 2, what: /^Call CA-stray of .* is in the carrier's list and belongs to no attempt/ },
    ]);
    expect(JSON.stringify(violations)).not.toContain(like.to);
    books[books.length - 1] = stray(now_s - 600);
    expect(await judged()).toMatchObject({ ok: true });
  });

  it('with a call that another run made to the same number is in order', async () => {
    const second = await world.run(run);
    const [attempt] = await world.call(await world.lease(second), 1);
    await world.tell(attempt, { kind: 'accepted', call_id: 'CA-other-run' });
    books.push(...(await booksOf(second)));
    expect(await world.audit({ run_id: run.run_id, carrier: access() })).toMatchObject({ ok: true });
  });

  it('with a call whose answer is still awaited is in order', async () => {
    run = await openRun(world);
    books = await booksOf(run);
    const [dialing] = await world.rows<{ to_number: string; from_number: string; intent_us: string }>(
      "SELECT to_number, from_number, intent_us FROM carillon.open_attempts WHERE run_id = $1 AND state = 'dialing'",
      [run.run_id],
    );
    const like = { to: dialing?.to_number ?? '', from: dialing?.from_number ?? '' };
    const created_at_s = Math.ceil(Number(dialing?.intent_us) / 1_000_000);
    books.push({ ...like, call: listed('CA-new', created_at_s) });
    expect(await judged()).toMatchObject({ ok: true });
    books.push({ ...like, call: listed('CA-newer', created_at_s) });
    expectFound((await judged()).violations, run, [{ invariant: 2, what: /^Call CA-newer/ }]);
  });

  it('that shows a call between other numbers is not', async () => {
    const [call] = books;
    if (!call) throw new Error('no call');
    call.to = '+972500000009';
    // Long enough ago to be listed, whatever the clocks.
    await world.rows('UPDATE carillon.attempts SET intent_us = intent_us - 600000000 WHERE run_id = $1 AND seq = $2', [
      run.run_id,
      JOBS.answered,
    ]);
    const { violations } = await judged();
    expectFound(violations, run, [
      { invariant: 2, job: JOBS.answered, attempt: 1, what: /names call A\d+, which is not between its two numbers/ },
    ]);
  });
});

describe('people whose number is no longer what it was', () => {
  it('are asked about by the names of their calls', async () => {
    await world.rows(
      `UPDATE carillon.leads l SET updated_at = now(), phone = CASE j.seq WHEN 1 THEN '+972500000008' END,
         erased_at = CASE j.seq WHEN 9 THEN now() END
       FROM carillon.outbound_call_jobs j
       WHERE j.lead_id = l.lead_id AND j.run_id = $1 AND j.seq IN (1, 9)`,
      [run.run_id],
    );
    expect(await judged()).toMatchObject({ ok: true, incomplete: [], checked: { carrier_numbers: 10 } });
    expect(asked.length).toBe(8);
    books = books.filter(({ call }) => call.call_id !== `I${run.run_id}`);
    expectFound((await judged()).violations, run, [
      { invariant: 2, job: JOBS.plain, attempt: 1, what: /names call I\d+, which the carrier does not have/ },
    ]);
  });
});

describe('a carrier that can’t be asked', () => {
  it.each([
    ['answers with an error', { fail: true }, /could not be compared: http_503/, 10],
    ['has no driver', { driver: 'other' }, /10 pairs of numbers .* no driver is called "fake"/, 1],
    ['has a secret that does not open', { secret: false }, /the secret does not open/, 1],
    [
      'is asked about fewer numbers than there are',
      { numbers_most: 4 },
      /was asked about 4 pairs of numbers; \d+ attempts lie beyond/,
      1,
    ],
  ])('leaves invariant 2 unproven: it %s', async (_, options, why, times) => {
    const report = await judged(options);
    expect(report).toMatchObject({ ok: false, violations: [] });
    expect(report.incomplete).toHaveLength(times);
    for (const one of report.incomplete)
      expect(one).toEqual({ invariant: 2, business_id: run.business_id, what: expect.stringMatching(why) });
  });
});
