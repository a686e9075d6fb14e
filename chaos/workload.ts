import { setTimeout as pause } from 'node:timers/promises';
import { Run, type Resolution } from '@carillon/contract';
import { z } from 'zod';
import type { Business, Campaign } from './businesses.ts';
import type { Answer, Client } from './client.ts';
import { createRandom, type Random } from './random.ts';

/** What the API has answered, and from when to when nothing may contradict it. */
export interface Promised {
  kind: 'stop' | 'pause' | 'job_cancel';
  business_id: number;
  run_id: number;
  /** Of a job. */
  seq: number | null;
  answered_us: number;
  /** A pause ends with the request to resume. */
  until_us: number;
}

/** What the client asked for, whether it was answered or not: only this explains what became of a lead. */
export interface Asked {
  /** By run. */
  stops: Set<string>;
  /** By job. */
  job_cancels: Set<string>;
  resolved: Map<string, Resolution>;
  /** Jobs that the client was shown under review, each with the reason that it was told. */
  reviews: Map<string, string>;
}

export interface Started {
  business: Business;
  campaign: Campaign;
  run_id: number;
  /** A resume of it had no answer and may be carried out at any time: its pauses promise nothing. */
  uncertain: boolean;
}

export interface Workload {
  started: readonly Started[];
  promised: readonly Promised[];
  asked: Asked;
  /** Answers that no client should ever get. */
  wrong: readonly string[];
  actions: Readonly<Record<string, number>>;
  /** Goes on until `stop`, then starts what is still to be started. */
  work(stop: AbortSignal): Promise<void>;
  /** Resumes what is paused. Returns how many runs have not ended. */
  letGoOn(): Promise<number>;
}

export const runKey = (business_id: number, run_id: number): string => `${business_id}/${run_id}`;
export const jobKey = (business_id: number, run_id: number, seq: number): string => `${business_id}/${run_id}-${seq}`;

const PAUSE_MS: [number, number] = [200, 2_500];
const BETWEEN_MS: [number, number] = [150, 900];
const ACTIONS = { read: 5, cancel_job: 5, pause: 4, resolve: 3, reconcile: 1, stop: 1 } as const;
/** Of all runs: leads of a stopped run are called no more, and it is calls that are to be judged. */
const STOPPED_SHARE = 0.1;

const Jobs = z.object({ items: z.array(z.object({ job_id: z.string(), reason: z.string().nullable() })) });

/** Programs of several businesses that start, pause, resume, stop, cancel and resolve, each in an order of the seed's. */
export function createWorkload(client: Client, businesses: readonly Business[], random: Random): Workload {
  const started: Started[] = [];
  const promised: Promised[] = [];
  const wrong: string[] = [];
  const actions: Record<string, number> = {};
  const asked: Asked = { stops: new Set(), job_cancels: new Set(), resolved: new Map(), reviews: new Map() };
  const campaigns = businesses.reduce((sum, business) => sum + business.campaigns.length, 0);
  const stops_most = Math.ceil(campaigns * STOPPED_SHARE);

  async function ask(run: Started, method: string, path: string, body?: object): Promise<Answer> {
    return await client.ask(run.business.key, method, path, body);
  }

  /** True for what was done; an answer that is neither that nor a conflict of states is wrong. */
  function isDone(what: string, { status, body }: Answer, wanted = 200): boolean {
    if (status === wanted) return true;
    if (status !== 409) wrong.push(`${what}: HTTP ${status} ${JSON.stringify(body)}`);
    return false;
  }

  async function start(business: Business, campaign: Campaign): Promise<void> {
    const { list_id, carrier_account_id, concurrency } = campaign;
    const request = { list_id, carrier_account_id, concurrency, policy: business.policy };
    const headers = { 'idempotency-key': `campaign-${list_id}-${carrier_account_id}` };
    const answer = await client.ask(business.key, 'POST', '/api/outbound_calls/start', request, headers);
    if (!isDone('start', answer, 201)) return;
    const { run_id, total_leads } = Run.parse(answer.body);
    if (total_leads !== campaign.leads) wrong.push(`run ${run_id} has ${total_leads} leads of ${campaign.leads}`);
    started.push({ business, campaign, run_id, uncertain: false });
  }

  function promise(kind: Promised['kind'], run: Started, { answered_us }: Answer, seq: number | null = null): Promised {
    const { business_id } = run.business;
    const made = { kind, business_id, run_id: run.run_id, seq, answered_us, until_us: Number.POSITIVE_INFINITY };
    promised.push(made);
    return made;
  }

  async function read(run: Started): Promise<Run | null> {
    const answer = await ask(run, 'GET', `/api/outbound/runs/${run.run_id}`);
    if (!isDone('read', answer)) return null;
    const seen = Run.parse(answer.body);
    const { queued, waiting, in_progress, completed, failed, cancelled, skipped, needs_review } = seen;
    const sum = queued + waiting + in_progress + completed + failed + cancelled + skipped + needs_review;
    if (sum !== run.campaign.leads) wrong.push(`the counters of run ${run.run_id} add up to ${sum}`);
    return seen;
  }

  async function resume(run: Started, made?: Promised): Promise<void> {
    if (made) made.until_us = Date.now() * 1_000;
    const answer = await ask(run, 'POST', `/api/outbound/runs/${run.run_id}/resume`);
    if (answer.silent) run.uncertain = true;
    isDone('resume', answer);
  }

  async function pauseAndResume(run: Started, mine: Random, stop: AbortSignal): Promise<void> {
    const live_calls = mine.pick(['drain', 'hang_up']);
    const answer = await ask(run, 'POST', `/api/outbound/runs/${run.run_id}/pause`, { live_calls });
    if (!isDone('pause', answer)) return;
    const made = run.uncertain ? undefined : promise('pause', run, answer);
    await pause(mine.between(...PAUSE_MS), undefined, { signal: stop }).catch(() => {});
    await resume(run, made);
  }

  async function stopRun(run: Started, mine: Random): Promise<void> {
    if (asked.stops.size >= stops_most) return;
    asked.stops.add(runKey(run.business.business_id, run.run_id));
    const request = { run_id: run.run_id, live_calls: mine.pick(['drain', 'hang_up']) };
    const answer = await ask(run, 'POST', '/api/outbound/stop-queue', request);
    if (isDone('stop', answer)) promise('stop', run, answer);
  }

  async function cancelJob(run: Started, mine: Random): Promise<void> {
    const seq = mine.whole(1, run.campaign.leads);
    const key = jobKey(run.business.business_id, run.run_id, seq);
    // What somebody wants called again is not cancelled here: which of the two came first could not be told.
    if (asked.resolved.has(key)) return;
    asked.job_cancels.add(key);
    const answer = await ask(run, 'POST', `/api/outbound_calls/jobs/${run.run_id}-${seq}/cancel`);
    if (isDone('cancel', answer)) promise('job_cancel', run, answer, seq);
  }

  async function resolve(run: Started, mine: Random): Promise<void> {
    const answer = await ask(run, 'GET', `/api/outbound/runs/${run.run_id}/jobs?status=needs_review`);
    if (!isDone('list reviews', answer)) return;
    for (const { job_id, reason } of Jobs.parse(answer.body).items) {
      const key = `${run.business.business_id}/${job_id}`;
      asked.reviews.set(key, reason ?? 'no cause');
      if (asked.resolved.has(key) || asked.job_cancels.has(key)) continue;
      const as = mine.pick(['called', 'call_again'] as const);
      asked.resolved.set(key, as);
      isDone('resolve', await ask(run, 'POST', `/api/outbound_calls/jobs/${job_id}/resolve`, { as }));
    }
  }

  async function act(run: Started, mine: Random, stop: AbortSignal): Promise<void> {
    const action = mine.weighted(ACTIONS);
    actions[action] = (actions[action] ?? 0) + 1;
    if (action === 'read') await read(run);
    else if (action === 'pause') await pauseAndResume(run, mine, stop);
    else if (action === 'stop') await stopRun(run, mine);
    else if (action === 'cancel_job') await cancelJob(run, mine);
    else if (action === 'resolve') await resolve(run, mine);
    else isDone('reconcile', await ask(run, 'POST', '/api/outbound/runs/reconcile', { run_id: run.run_id }));
  }

  /** One thing after the other, so that for each run it is known what was asked for last. */
  async function workFor(business: Business, mine: Random, stop: AbortSignal): Promise<void> {
    const since_ms = performance.now();
    const left = [...business.campaigns];
    while (!stop.aborted) {
      for (let next = left[0]; next && next.starts_at_ms <= performance.now() - since_ms; next = left[0]) {
        left.shift();
        await start(business, next);
      }
      const runs = started.filter((run) => run.business === business).slice(-RUNS_LATELY);
      if (runs.length > 0) await act(mine.pick(runs), mine, stop);
      await pause(mine.between(...BETWEEN_MS), undefined, { signal: stop }).catch(() => {});
    }
    for (const campaign of left) await start(business, campaign);
  }

  return {
    started,
    promised,
    asked,
    wrong,
    actions,
    async work(stop) {
      // Each its own chance: how long the one waits for an answer must not change what the other does.
      const seeds = businesses.map(() => random.whole(0, 2 ** 31));
      await Promise.all(
        businesses.map((business, i) => workFor(business, createRandom(seeds[i] ?? 0, 'client'), stop)),
      );
    },
    async letGoOn() {
      const seen = await Promise.all(started.map(async (run) => ({ run, now: await read(run) })));
      const open = seen.filter(({ now }) => now?.ended_at === null);
      for (const { run, now } of open) if (now?.status === 'paused') await resume(run);
      return open.length;
    },
  };
}

/** Those that are likely to be at work still. */
const RUNS_LATELY = 4;
