import type { JobKey, LiveCalls, RunId, Seq } from '@carillon/contract';
import {
  cancelJob,
  createRun,
  type Limits,
  pauseRun,
  reconcileNow,
  resolveJob,
  resumeRun,
  stopRun,
} from '@carillon/engine';
import type pg from 'pg';
import type { Api, BusinessKey, Heard, Installation } from './installation.ts';
import type { Plan, Wish } from './plan.ts';
import type { World } from './world.ts';

/** What an answered stop, pause or cancel forbids: a further attempt, of the run or of one job. */
interface Promised {
  what: string;
  key: BusinessKey;
  run_id: RunId;
  seq: number | null;
  /** Attempts that there were when the person heard. */
  attempts: number;
}

/** What people did, and what they were told. */
export interface People {
  /** By business and start, as the plan counts them; null: not started yet. */
  runs: (RunId | null)[][];
  stops: Set<RunId>;
  cancelled_jobs: Set<string>;
  resolved: Map<string, { called: number; call_again: number }>;
  /** Promises that were broken. */
  broken: string[];
  /** Looks at what must still hold. */
  look(): Promise<void>;
  /** Lets every paused run go on; asked again and again once the faults are over. */
  resumeAll(): Promise<void>;
}

const ACTOR = { name: 'somebody', user_id: null };
const AGAIN_US = 400_000;

interface Scene {
  world: World;
  plan: Plan;
  installation: Installation;
  superuser: pg.Client;
  keys: BusinessKey[];
  limits: Limits;
}

/** People at work: each wish at its time, whether or not somebody answers. */
export function letPeopleWork(scene: Scene): People {
  const { world, plan, installation, superuser, keys, limits } = scene;
  const runs = plan.businesses.map((business) => business.runs.map((): RunId | null => null));
  const stops = new Set<RunId>();
  const cancelled_jobs = new Set<string>();
  const resolved: People['resolved'] = new Map();
  const broken: string[] = [];
  /** By run: what must hold until somebody asks for something else. */
  const paused = new Map<RunId, Promised>();
  const for_good: Promised[] = [];
  /** Orders to go on that may still take effect, by run: nobody knows what became of them. */
  const open_resumes = new Map<RunId, number>();
  const resumes = new Map<RunId, number>();

  async function look<Row extends pg.QueryResultRow>(sql: string, params: unknown[]): Promise<Row[]> {
    return await world.observe(async () => (await superuser.query<Row>(sql, params)).rows);
  }

  async function countAttempts(key: BusinessKey, run_id: RunId, seq: number | null): Promise<number> {
    const [row] = await look<{ n: number }>(
      `SELECT count(*)::int AS n FROM (
         SELECT seq, attempt_no FROM carillon.open_attempts WHERE business_id = $1 AND run_id = $2
         UNION SELECT seq, attempt_no FROM carillon.attempts WHERE business_id = $1 AND run_id = $2) a
       WHERE $3::int IS NULL OR seq = $3`,
      [key.business_id, run_id, seq],
    );
    return row?.n ?? 0;
  }

  async function promise(what: string, key: BusinessKey, run_id: RunId, seq: number | null): Promise<Promised> {
    return { what, key, run_id, seq, attempts: await countAttempts(key, run_id, seq) };
  }

  async function check(promised: Promised): Promise<void> {
    const { what, key, run_id, seq } = promised;
    const now = await countAttempts(key, run_id, seq);
    if (now <= promised.attempts) return;
    broken.push(
      `run ${run_id}${seq === null ? '' : `, lead ${seq},`} made ${now - promised.attempts} attempts after a ${what} was answered`,
    );
    promised.attempts = now;
  }

  async function start(business: number, run: number): Promise<void> {
    const key = keys[business] as BusinessKey;
    const planned = plan.businesses[business]?.runs[run];
    const heard = await installation.ask(async ({ db, waker }) => {
      const carrier_account_id = key.carrier_account_ids[planned?.account ?? 0];
      const request = { list_id: key.list_id, carrier_account_id, ...planned?.request } as never;
      const options = { actor: ACTOR, idempotency_key: `start ${run}`, limits };
      const made = await createRun(db, key.business_id, request, options);
      waker.wake(key.business_id);
      return made.run;
    });
    const mine = runs[business];
    if (heard.kind === 'answer' && mine) mine[run] = heard.value.run_id as RunId;
    else world.after(AGAIN_US, null, '', () => void start(business, run));
  }

  async function order<T>(run_id: RunId, name: string, work: (api: Api) => Promise<T>): Promise<Heard<T>> {
    world.tell(`somebody asks to ${name} run ${run_id}`);
    const heard = await installation.ask(work);
    world.tell(`somebody hears of ${name} run ${run_id}: ${heard.kind === 'refusal' ? heard.code : heard.kind}`);
    return heard;
  }

  async function resume(key: BusinessKey, run_id: RunId): Promise<void> {
    const was = paused.get(run_id);
    paused.delete(run_id);
    if (was) await check(was);
    open_resumes.set(run_id, (open_resumes.get(run_id) ?? 0) + 1);
    resumes.set(run_id, (resumes.get(run_id) ?? 0) + 1);
    const heard = await order(run_id, 'resume', async ({ db, waker }) => {
      await resumeRun(db, key.business_id, run_id, limits, ACTOR);
      waker.wake(key.business_id);
    });
    if (heard.kind !== 'nothing') open_resumes.set(run_id, (open_resumes.get(run_id) ?? 0) - 1);
  }

  async function halt(kind: 'pause' | 'stop', key: BusinessKey, run_id: RunId, live_calls: LiveCalls): Promise<void> {
    if (kind === 'stop') stops.add(run_id);
    const run = kind === 'stop' ? stopRun : pauseRun;
    const resumed = resumes.get(run_id);
    const heard = await order(
      run_id,
      kind,
      async ({ db }) => await run(db, key.business_id, run_id, live_calls, ACTOR),
    );
    if (heard.kind !== 'answer') return;
    const promised = await promise(kind, key, run_id, null);
    if (kind === 'stop') for_good.push(promised);
    // Nobody may have let it go on while the answer was on its way.
    else if ((open_resumes.get(run_id) ?? 0) === 0 && resumes.get(run_id) === resumed) paused.set(run_id, promised);
  }

  async function cancelOne(key: BusinessKey, run_id: RunId, seq: number): Promise<void> {
    cancelled_jobs.add(`${run_id}-${seq}`);
    const job: JobKey = { run_id, seq: seq as Seq };
    const heard = await order(run_id, `cancel lead ${seq} of`, async ({ db }) => {
      await cancelJob(db, key.business_id, job, limits, ACTOR);
    });
    // One who has been called already may have been under review, and called again for that.
    if (heard.kind === 'answer' && !resolved.has(`${run_id}-${seq}`))
      for_good.push(await promise('cancel', key, run_id, seq));
  }

  async function resolve(key: BusinessKey, run_id: RunId, resolution: 'called' | 'call_again'): Promise<void> {
    const rows = await look<{ seq: number }>(
      `SELECT seq FROM carillon.outbound_call_jobs WHERE business_id = $1 AND run_id = $2 AND status = 'needs_review' ORDER BY seq`,
      [key.business_id, run_id],
    );
    for (const { seq } of rows) {
      const name = `${run_id}-${seq}`;
      const counts = resolved.get(name) ?? { called: 0, call_again: 0 };
      counts[resolution]++;
      resolved.set(name, counts);
      const job: JobKey = { run_id, seq: seq as Seq };
      await order(run_id, `resolve as ${resolution} lead ${seq} of`, async ({ db }) => {
        await resolveJob(db, key.business_id, job, resolution, { actor: ACTOR, limits });
      });
    }
  }

  async function fulfil(wish: Wish): Promise<void> {
    const run_id = runs[wish.business]?.[wish.run];
    const key = keys[wish.business];
    if (!run_id || !key) return;
    if (wish.kind === 'resume') await resume(key, run_id);
    else if (wish.kind === 'pause' || wish.kind === 'stop') await halt(wish.kind, key, run_id, wish.live_calls);
    else if (wish.kind === 'cancel_job') await cancelOne(key, run_id, wish.seq);
    else if (wish.kind === 'resolve') await resolve(key, run_id, wish.resolution);
    else
      await order(
        run_id,
        'reconcile',
        async ({ db }) => await reconcileNow(db, key.business_id, { run_id, actor: ACTOR }),
      );
  }

  for (const [business, { runs: planned }] of plan.businesses.entries())
    for (const [run, { at_us }] of planned.entries()) world.after(at_us, null, '', () => void start(business, run));
  for (const wish of plan.people) world.after(wish.at_us, null, '', () => void fulfil(wish));

  return {
    runs,
    stops,
    cancelled_jobs,
    resolved,
    broken,
    async look() {
      for (const promised of [...for_good, ...paused.values()]) await check(promised);
    },
    async resumeAll() {
      for (const [business, mine] of runs.entries())
        for (const run_id of mine) {
          const key = keys[business];
          if (!key || !run_id) continue;
          const rows = await look(
            `SELECT 1 FROM carillon.outbound_call_runs WHERE business_id = $1 AND run_id = $2 AND status = 'paused'`,
            [key.business_id, run_id],
          );
          if (rows.length > 0) void resume(key, run_id);
        }
    },
  };
}
