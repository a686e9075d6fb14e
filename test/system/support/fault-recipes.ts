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
  /** Leads that were called in the end; all of them by default. */
  called?: number;
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
      const swept = 'SELECT 1 FROM carillon.outbound_call_runs WHERE run_id = $1 AND swept_seq = total_leads';
      if (status === 'cancelled')
        await until(async () => (await here.rows(swept, [run_id])).length === 1, {
          deadline_ms: DEADLINE_MS,
          what: 'the rows of the stopped run to be swept',
        });
    },
  };
}

type Request = (here: FaultCase, run_id: number) => [path: string, body?: object];

/**
 * A person asks an API process, which dies at the point; the person asks again elsewhere. `undone` and `done` are what
 * the run is on either side of the commit, before it is asked again.
 */
function request(
  options: Omit<Recipe, 'play'>,
  asked: Request,
  expected: { undone: object; done: object; after: object; again?: number },
  prepare: (here: FaultCase, run_id: number) => Promise<void> = async () => {},
  resume = false,
): Recipe {
  return {
    ...options,
    async play(here, point, recipe, expect) {
      const run_id = await here.start(recipe.run);
      await prepare(here, run_id);
      const { process, url } = await here.doomedApi(`${point}:kill`);
      const [path, body] = asked(here, run_id);
      await expect(here.send(url, 'POST', path, body)).rejects.toThrow();
      await here.diedAt(process, point, expect);
      const committed = point.endsWith('.committed');
      expect(await here.run(run_id)).toMatchObject(committed ? expected.done : expected.undone);
      const again = await here.send(here.api.url, 'POST', path, body);
      expect(again.status).toBe(committed ? (expected.again ?? 200) : 200);
      expect(await here.run(run_id)).toMatchObject(expected.after);
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

/** A call that no attempt speaks for, told of by the carrier under an attempt's address. */
async function strayCall(here: FaultCase, run_id: number, url: string): Promise<void> {
  const token = randomBytes(16).toString('base64url');
  const address = `${url}/carriers/twilio/${here.business_id}/${here.carrier_account_id}/${run_id}/1/9/${token}`;
  const form = new URLSearchParams([
    ['To', '+972529999999'],
    ['From', '+97231110000'],
    ['Url', `${address}/answer`],
    ['StatusCallback', `${address}/status`],
    ...['initiated', 'ringing', 'answered', 'completed'].map((event) => ['StatusCallbackEvent', event]),
  ]);
  const authorization = `Basic ${Buffer.from('AC1:token').toString('base64')}`;
  const answer = await fetch(`${here.sim.url}/2010-04-01/Accounts/AC1/Calls.json`, {
    method: 'POST',
    headers: { authorization },
    body: form,
  });
  if (!answer.ok) throw new Error(`the carrier did not take the stray call: ${await answer.text()}`);
}

/**
 * A call that the database does not know: it is hung up and the lane takes no more calls, whoever dies on the way.
 * The auditor calls it a violation, which it is; so it is judged here.
 */
function stray(doomed: 'api' | 'worker'): Recipe {
  return {
    // It rings until the next API is there: the carrier tells of each change once.
    behaviour: { ring_ms: 20_000, talk_ms: 60_000 },
    called: -1,
    async play(here, point, _recipe, expect) {
      const run_id = await here.start();
      if (doomed === 'api') {
        const { process, url } = await here.doomedApi(`${point}:kill`);
        await strayCall(here, run_id, url);
        await here.diedAt(process, point, expect);
        await here.successor(url);
      } else {
        await strayCall(here, run_id, here.api.url);
        await here.diedAt(here.worker(`${point}:kill`), point, expect);
      }
      // Whoever does not know yet that the database has forgotten calls may dial.
      const halted = 'SELECT 1 FROM carillon.lanes WHERE halted_reason IS NOT NULL';
      const told = 'the lane to be halted by what the carrier tells';
      await until(async () => (await here.rows(halted)).length === 1, { deadline_ms: DEADLINE_MS, what: told });
      here.worker();
      const over = 'SELECT 1 FROM carillon.unwanted_calls WHERE over_at IS NOT NULL';
      const what = 'the end of the call that nobody wants';
      await until(async () => (await here.rows(over)).length === 1, { deadline_ms: DEADLINE_MS, what });
      const [call] = here.sim.ledger();
      expect(call?.statuses.at(-1)?.status).toMatch(/^(canceled|completed)$/);
      // Not one call more: a database that has forgotten calls is not dialled from.
      expect(here.sim.ledger().length).toBe(1);
      expect(await here.rows(halted)).toHaveLength(1);
    },
  };
}

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
  dial: worker(),
  find: worker({ first: 'dial.body_out', behaviour: silent }),
  fetch_call: worker({ behaviour: silent }),
  hang_up: worker({ lines: 1, called: 1, behaviour: { talk_ms: 60_000 } }, stopLive, 'cancelled'),
};

/** The same place in the other kind of process that passes it. */
export const ELSEWHERE: readonly { point: string; recipe: Recipe }[] = [
  'record.before_commit',
  'record.committed',
  'settle.before_commit',
  'settle.committed',
].map((point) => ({ point, recipe: callbacks() }));
