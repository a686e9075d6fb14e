import { randomBytes } from 'node:crypto';
import type { FaultPlace, StartRun } from '@carillon/contract';
import type { ExpectStatic } from 'vitest';
import { until } from '../../support/wait.ts';
import type { CaseOptions, FaultCase } from './fault-case.ts';
import type { Running } from './processes.ts';

const DEADLINE_MS = 60_000;

/** How a process is brought to a place, and what is to be seen in the end. */
export interface Recipe extends CaseOptions {
  run?: Partial<StartRun>;
  /** Another worker dies here first, so that it leaves something to be tended. */
  first?: string;
  /** Numbers that were called in the end; those of all leads by default. */
  called?: number;
  /** What the auditor finds, and has to: the database has forgotten a call. */
  violations?: readonly RegExp[];
  /** Does it, from the start of the run to its end: the process dies at `point` on the way. */
  play(here: FaultCase, point: string, recipe: Recipe, expect: ExpectStatic): Promise<void>;
}

type Act = (here: FaultCase, run_id: number, doomed: Running) => Promise<void>;

/** A worker dies at the point while it works on a run, and another one ends the run. */
function worker(options: Omit<Recipe, 'play'> = {}, act: Act = async () => {}, status = 'completed'): Recipe {
  return {
    ...options,
    async play(here, point, recipe, expect) {
      const run_id = await here.start(recipe.run);
      if (recipe.first !== undefined) await here.diedAt(here.worker(`${recipe.first}:kill`), recipe.first, expect);
      const doomed = here.worker(`${point}:kill`);
      await act(here, run_id, doomed);
      await here.diedAt(doomed, point, expect);
      here.worker();
      expect(await here.ended(run_id)).toMatchObject({ status, needs_review: 0, cursor_position: here.leads });
      if (status === 'cancelled') await swept(here, run_id);
    },
  };
}

async function swept(here: FaultCase, run_id: number): Promise<void> {
  const all = 'SELECT 1 FROM carillon.outbound_call_runs WHERE run_id = $1 AND swept_seq = total_leads';
  const what = 'the rows of the stopped run to be swept';
  await until(async () => (await here.rows(all, [run_id])).length === 1, { deadline_ms: DEADLINE_MS, what });
}

type Asked = [path: string, body?: object];
type Request = (here: FaultCase, run_id: number) => Asked | Promise<Asked>;

/** What there is to be seen on either side of the commit, before it is asked again, and after that; of the run by default. */
interface Seen {
  undone: object;
  done: object;
  after: object;
  again?: number;
  look?(here: FaultCase, run_id: number): Promise<object | undefined>;
}

/** A person asks an API process, which dies at the point; the person asks again elsewhere. */
function request(
  options: Omit<Recipe, 'play'>,
  asked: Request,
  expected: Seen,
  prepare: (here: FaultCase, run_id: number) => Promise<void> = async () => {},
  resume = false,
): Recipe {
  return {
    ...options,
    async play(here, point, recipe, expect) {
      const run_id = await here.start(recipe.run);
      await prepare(here, run_id);
      const { process, url } = await here.doomedApi(`${point}:kill`);
      const [path, body] = await asked(here, run_id);
      const look = async () => (expected.look ? await expected.look(here, run_id) : await here.run(run_id));
      await expect(here.send(url, 'POST', path, body)).rejects.toThrow();
      await here.diedAt(process, point, expect);
      const committed = point.endsWith('.committed');
      expect(await look()).toMatchObject(committed ? expected.done : expected.undone);
      const again = await here.send(here.api.url, 'POST', path, body);
      expect(again.status).toBe(committed ? (expected.again ?? 200) : 200);
      expect(await look()).toMatchObject(expected.after);
      if (resume) await here.ask('POST', `/api/outbound/runs/${run_id}/resume`);
      here.worker();
      expect(await here.ended(run_id)).toMatchObject({ cursor_position: here.leads });
    },
  };
}

/** Two APIs are asked with one key, of which the first dies. */
const create: Recipe = {
  async play(here, point, _recipe, expect) {
    const { process, url } = await here.doomedApi(`${point}:kill`);
    const key = { 'idempotency-key': 'once' };
    const path = '/api/outbound_calls/start';
    const body = { list_id: here.list_id };
    await expect(here.send(url, 'POST', path, body, key)).rejects.toThrow();
    await here.diedAt(process, point, expect);
    const runs = await here.rows<{ run_id: number }>('SELECT run_id::int FROM carillon.outbound_call_runs');
    expect(runs.length).toBe(point.endsWith('.committed') ? 1 : 0);
    const { run_id } = await here.ask<{ run_id: number }>('POST', path, body, key);
    if (runs[0]) expect(run_id).toBe(runs[0].run_id);
    here.worker();
    expect(await here.ended(run_id)).toMatchObject({ status: 'completed', completed: here.leads });
  },
};

/** The API that the carrier calls back dies; what it did not take the poller learns. */
function callbacks(options: Omit<Recipe, 'play'> = {}): Recipe {
  return {
    ...options,
    async play(here, point, recipe, expect) {
      const { process, url } = await here.doomedApi(`${point}:kill`);
      const run_id = await here.start(recipe.run);
      here.worker(undefined, url);
      await here.diedAt(process, point, expect);
      expect(await here.ended(run_id)).toMatchObject({ status: 'completed', completed: here.leads });
    },
  };
}

/** Of nobody's lead. */
const STRAY = '+972529999999';
/** It rings until the next API is there: the carrier tells of each change once. */
const strayRings = { [STRAY]: { ring_ms: 20_000, talk_ms: 60_000 } };
const BELONGS_TO_NOBODY = /belongs to no attempt/;

/** A call that no attempt speaks for, told of by the carrier under an attempt's address if there is one. */
async function strayCall(here: FaultCase, to: string, address: string | null): Promise<void> {
  const form = new URLSearchParams([
    ['To', to],
    ['From', '+97231110000'],
    ['Url', `${address ?? here.sim.url}/answer`],
  ]);
  if (address !== null) {
    form.append('StatusCallback', `${address}/status`);
    for (const event of ['initiated', 'ringing', 'answered', 'completed']) form.append('StatusCallbackEvent', event);
  }
  const authorization = `Basic ${Buffer.from('AC1:token').toString('base64')}`;
  const answer = await fetch(`${here.sim.url}/2010-04-01/Accounts/AC1/Calls.json`, {
    method: 'POST',
    headers: { authorization },
    body: form,
  });
  if (!answer.ok) throw new Error(`the carrier did not take the stray call: ${await answer.text()}`);
}

async function strayAttempt(here: FaultCase, run_id: number, url: string): Promise<void> {
  const token = randomBytes(16).toString('base64url');
  const of = `${here.business_id}/${here.carrier_account_id}/${run_id}/1/9/${token}`;
  await strayCall(here, STRAY, `${url}/carriers/twilio/${of}`);
}

const HALTED = 'SELECT 1 FROM carillon.lanes WHERE halted_reason IS NOT NULL';

async function laneIsHalted(here: FaultCase): Promise<void> {
  const what = 'the lane to be halted by what the carrier tells';
  await until(async () => (await here.rows(HALTED)).length === 1, { deadline_ms: DEADLINE_MS, what });
}

/**
 * A call that the database does not know: it is hung up and the lane takes no more calls, whoever dies on the way, until
 * a person says so; then the run goes on to its end.
 */
function stray(doomed: 'api' | 'worker'): Recipe {
  return {
    numbers: strayRings,
    called: 4,
    violations: [BELONGS_TO_NOBODY],
    async play(here, point, _recipe, expect) {
      const run_id = await here.start();
      if (doomed === 'api') {
        const { process, url } = await here.doomedApi(`${point}:kill`);
        await strayAttempt(here, run_id, url);
        await here.diedAt(process, point, expect);
        await here.successor(url);
      } else {
        await strayAttempt(here, run_id, here.api.url);
        await here.diedAt(here.worker(`${point}:kill`), point, expect);
      }
      // Whoever does not know yet that the database has forgotten calls may dial.
      await laneIsHalted(here);
      here.worker();
      const over = 'SELECT 1 FROM carillon.unwanted_calls WHERE over_at IS NOT NULL';
      const what = 'the end of the call that nobody wants';
      await until(async () => (await here.rows(over)).length === 1, { deadline_ms: DEADLINE_MS, what });
      const [call] = here.sim.ledger();
      expect(call?.statuses.at(-1)?.status).toMatch(/^(canceled|completed)$/);
      // Not one call more: a database that has forgotten calls is not dialled from.
      expect(here.sim.ledger().length).toBe(1);
      expect(await here.rows(HALTED)).toHaveLength(1);
      await here.ask('POST', `/api/carrier_accounts/${here.carrier_account_id}/resume`);
      expect(await here.ended(run_id)).toMatchObject({ status: 'completed', completed: here.leads });
      // What is told of the call's end is no news, and halts nothing again.
      expect(await here.rows(HALTED)).toHaveLength(0);
    },
  };
}

/**
 * The first lead was called and the database has forgotten it. A worker that notices, pauses and compares dies on the way;
 * with another all is settled once, a person lets the run go on, and that lead is not called again.
 */
const restored: Recipe = {
  violations: [BELONGS_TO_NOBODY],
  async play(here, point, _recipe, expect) {
    const run_id = await here.start();
    const [first = ''] = here.numbers;
    await strayCall(here, first, null);
    const letGo = await here.holdWatch();
    await here.rows(`UPDATE carillon.installation_state SET place = place || '0'`);
    await here.diedAt(here.worker(`${point}:kill`), point, expect);
    await letGo();
    here.worker();
    const settled = 'SELECT 1 FROM carillon.lanes WHERE restores_settled = 1';
    const what = 'the account to be compared with its list';
    await until(async () => (await here.rows(settled)).length === 1, { deadline_ms: DEADLINE_MS, what });
    expect(await here.run(run_id)).toMatchObject({ status: 'paused', needs_review: 1 });
    expect(here.sim.ledger().length).toBe(1);
    await here.acknowledge();
    expect(await here.ended(run_id)).toMatchObject({
      status: 'completed',
      completed: here.leads - 1,
      needs_review: 1,
    });
    const told = `SELECT action FROM carillon.installation_events WHERE action = 'restore.noticed'
      UNION ALL SELECT action FROM carillon.audit_events WHERE action IN ('run.paused', 'restore.reconciled') ORDER BY 1`;
    const actions = (await here.rows<{ action: string }>(told)).map(({ action }) => action);
    expect(actions).toEqual(['restore.noticed', 'restore.reconciled', 'run.paused']);
  },
};

/** A worker dies that stops a run whose end has come; nobody is called. */
const overdue: Recipe = {
  called: 0,
  async play(here, point, _recipe, expect) {
    const run_id = await here.start();
    await here.rows('UPDATE carillon.outbound_call_runs SET ends_at = now() WHERE run_id = $1', [run_id]);
    await here.diedAt(here.worker(`${point}:kill`), point, expect);
    here.worker();
    expect(await here.ended(run_id)).toMatchObject({ status: 'cancelled', cancelled: here.leads });
    await swept(here, run_id);
  },
};

const silent = { callback: { drop: 1 } };
const stopAll: Act = async (here, run_id) => {
  await here.ask('POST', '/api/outbound/stop-queue', { run_id, live_calls: 'hang_up' });
};
const stopLive: Act = async (here, run_id, doomed) => {
  // While they talk: a call that is answered after the stop gets its hang-up with the answer, and nobody need ask for it.
  const talking = async () =>
    (await here.rows("SELECT FROM carillon.open_attempts WHERE run_id = $1 AND state = 'in_call'", [run_id])).length;
  await until(async () => (await talking()) > 0, { deadline_ms: DEADLINE_MS, what: 'a call in its talk' });
  await stopAll(here, run_id, doomed);
};
const sigterm: Act = async (here, _run_id, doomed) => {
  await here.calls(1);
  process.kill(doomed.pid, 'SIGTERM');
};
/** A job under review: its attempt was given up, and the policy asks for a person. */
async function toReview(here: FaultCase, run_id: number): Promise<void> {
  const first = here.worker('dial.before_connect:kill');
  await first.ended;
  const second = here.worker();
  const what = 'a job under review';
  await until(async () => (await here.run(run_id)).needs_review === 1, { deadline_ms: DEADLINE_MS, what });
  await second.kill();
}

const slow = { talk_ms: 2_500 };

/** For each place of the list; one without a recipe does not pass the type checker. */
export const RECIPES: Record<FaultPlace, Recipe> = {
  create,
  fill: worker({ leads: 8 }),
  lease: worker(),
  heartbeat: worker({ leads: 2, lines: 1, behaviour: slow }),
  release: worker({ leads: 2, lines: 1, behaviour: slow }, sigterm),
  claim: worker(),
  record: worker(),
  settle: worker({ behaviour: silent }),
  late: callbacks({ behaviour: { callback: { duplicate: 1 } } }),
  expire: worker({ first: 'dial.before_connect' }),
  take_turn: worker({ first: 'dial.body_out', behaviour: silent }),
  take_unwanted: stray('worker'),
  unwanted_over: stray('worker'),
  forgotten: stray('api'),
  pause: request(
    {},
    (_, run_id) => [`/api/outbound/runs/${run_id}/pause`],
    { undone: { status: 'pending' }, done: { status: 'paused' }, after: { status: 'paused' } },
    undefined,
    true,
  ),
  resume: request(
    {},
    (_, run_id) => [`/api/outbound/runs/${run_id}/resume`],
    { undone: { status: 'paused' }, done: { status: 'pending' }, after: { status: 'pending' } },
    async (here, run_id) => void (await here.ask('POST', `/api/outbound/runs/${run_id}/pause`)),
  ),
  stop: request({ called: 0 }, (_, run_id) => ['/api/outbound/stop-queue', { run_id, live_calls: 'drain' }], {
    undone: { status: 'pending', cancelled: 0 },
    done: { status: 'cancelled', cancelled: 3 },
    after: { status: 'cancelled', cancelled: 3 },
  }),
  sweep: worker({ leads: 5, called: 0 }, stopAll, 'cancelled'),
  cancel_job: request({ called: 2 }, (_, run_id) => [`/api/outbound_calls/jobs/${run_id}-1/cancel`], {
    undone: { queued: 3, cancelled: 0 },
    done: { queued: 2, cancelled: 1 },
    after: { queued: 2, cancelled: 1 },
  }),
  resolve: request(
    { leads: 1, called: 0, run: { policy: { retry: {}, review_always: true } } },
    (_, run_id) => [`/api/outbound_calls/jobs/${run_id}-1/resolve`, { as: 'called' }],
    { undone: { needs_review: 1 }, done: { completed: 1 }, after: { completed: 1 }, again: 409 },
    toReview,
  ),
  reconcile: request(
    { behaviour: silent },
    (_, run_id) => ['/api/outbound/runs/reconcile', { run_id }],
    { undone: {}, done: {}, after: {} },
    async (here) => void (await here.worker('dial.body_out:kill').ended),
  ),
  erase: request(
    { called: 2 },
    async (here) => {
      const [lead] = await here.rows<{ lead_id: string }>(
        'SELECT lead_id FROM carillon.leads ORDER BY lead_id LIMIT 1',
      );
      return [`/api/leads/${lead?.lead_id}/erase`];
    },
    {
      undone: { queued: 3, skipped: 0 },
      done: { queued: 2, skipped: 1 },
      after: { queued: 2, skipped: 1 },
    },
  ),
  lane_resume: request(
    { numbers: strayRings, called: 4, violations: [BELONGS_TO_NOBODY] },
    (here) => [`/api/carrier_accounts/${here.carrier_account_id}/resume`],
    {
      undone: { halted: true },
      done: { halted: false },
      after: { halted: false },
      look: async (here) => ({ halted: (await here.rows(HALTED)).length > 0 }),
    },
    async (here, run_id) => {
      await strayAttempt(here, run_id, here.api.url);
      await laneIsHalted(here);
    },
  ),
  restore_notice: restored,
  restore_pause: restored,
  restore_turn: restored,
  restore_compare: restored,
  restore_review: restored,
  restore_settled: restored,
  list: restored,
  dial: worker(),
  find: worker({ first: 'dial.body_out', behaviour: silent }),
  fetch_call: worker({ behaviour: silent }),
  hang_up: worker({ lines: 1, called: 1, behaviour: { talk_ms: 60_000 } }, stopLive, 'cancelled'),
};

/** The same places in the API that the carrier calls back. */
export const CALLED_BACK: readonly { point: string; recipe: Recipe }[] = [
  'record.before_commit',
  'record.committed',
  'settle.before_commit',
  'settle.committed',
].map((point) => ({ point, recipe: callbacks() }));

/** An API is asked to settle what is stuck, and dies while it gives up attempts that a dead worker was to dial. */
const expiredNow = request(
  {},
  (_, run_id) => ['/api/outbound/runs/reconcile', { run_id }],
  {
    undone: { states: ['dialing'] },
    done: { states: ['unknown'] },
    after: { states: ['unknown'] },
    look: async (here) =>
      (await here.rows('SELECT array_agg(DISTINCT state) AS states FROM carillon.open_attempts'))[0],
  },
  async (here) => {
    await here.worker('dial.before_connect:kill').ended;
    const overdue_ones = `SELECT FROM carillon.open_attempts
      WHERE deadline_us < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`;
    const what = 'the dial deadline to pass';
    await until(async () => (await here.rows(overdue_ones)).length > 0, { deadline_ms: DEADLINE_MS, what });
  },
);

/** The same place in the other kind of process that passes it. */
export const ELSEWHERE: readonly { point: string; whom: string; recipe: Recipe }[] = [
  { whom: 'an API that is asked to reconcile', place: 'expire', recipe: expiredNow },
  { whom: 'a worker that ends an overdue run', place: 'stop', recipe: overdue },
].flatMap(({ place, ...row }) =>
  ['before_commit', 'committed'].map((moment) => ({ ...row, point: `${place}.${moment}` })),
);
