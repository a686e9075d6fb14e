import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';

/** One request of somebody's, and how it went. */
export interface Asked {
  what: string;
  /** 0: no answer at all, which `problem` explains. */
  status: number;
  code: string | null;
  retry_after: string | null;
  waited_ms: number;
  body: unknown;
}

type Asking = (what: string, method: string, path: string, body?: object | string, key?: string) => Promise<Asked>;

/** People at work on the API, each one thing after the other, until they are told to stop. */
export interface People {
  asked: readonly Asked[];
  /** Everybody has an answer to what was asked last. */
  stop(): Promise<void>;
}

const BETWEEN_MS = 30;

/** `habits`: what each of them does again and again. */
export function startPeople(api_url: string, key: string, habits: readonly Habit[]): People {
  const asked: Asked[] = [];
  const stop = new AbortController();

  const ask: Asking = async (what, method, path, body, idempotency_key) => {
    const headers: Record<string, string> = { authorization: `Bearer ${key}` };
    if (body !== undefined) headers['content-type'] = typeof body === 'string' ? 'text/csv' : 'application/json';
    if (idempotency_key !== undefined) headers['idempotency-key'] = idempotency_key;
    const since_ms = performance.now();
    const one: Asked = { what, status: 0, code: null, retry_after: null, waited_ms: 0, body: null };
    try {
      const request: RequestInit = { method, headers, body: typeof body === 'object' ? JSON.stringify(body) : body };
      const response = await fetch(api_url + path, request);
      const text = await response.text();
      const json = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
      one.status = response.status;
      one.body = json;
      one.code = typeof json.code === 'string' ? json.code : null;
      one.retry_after = response.headers.get('retry-after');
    } catch (error) {
      one.body = String(error instanceof Error ? (error.cause ?? error) : error);
    }
    one.waited_ms = performance.now() - since_ms;
    asked.push(one);
    return one;
  };

  const working = habits.map(async (habit) => {
    for (let round = 1; !stop.signal.aborted; round++) {
      await habit(ask, round);
      await pause(BETWEEN_MS);
    }
  });
  return {
    asked,
    async stop() {
      stop.abort();
      await Promise.all(working);
    },
  };
}

export type Habit = (ask: Asking, round: number) => Promise<void>;

/** Reads what a page shows of a run, and the list of all. */
export const reading = (run_id: number): Habit[] => [
  async (ask) => void (await ask('read a run', 'GET', `/api/outbound/runs/${run_id}`)),
  async (ask) => void (await ask('list the runs', 'GET', '/api/outbound/runs?limit=20')),
];

const LET_RUN_MS = 700;

/** Pauses a run that is calling and lets it go on, again and again. */
export const interrupting =
  (run_id: number): Habit =>
  async (ask) => {
    await ask('pause a calling run', 'POST', `/api/outbound/runs/${run_id}/pause`, {});
    await ask('resume it', 'POST', `/api/outbound/runs/${run_id}/resume`);
    await pause(LET_RUN_MS);
  };

/**
 * Starts runs that call nobody yet, pauses, resumes and stops each, and cancels a lead of it. `starts`: the key of each
 * run that was answered; `told`: the status that the last answer named.
 */
export function steering(lead_ids: readonly number[]) {
  const starts = new Map<number, string>();
  const told = new Map<number, string>();
  const starts_at = new Date(Date.now() + 86_400_000).toISOString();
  const habit: Habit = async (ask) => {
    const idempotency_key = randomUUID();
    const started = await ask('start', 'POST', '/api/outbound_calls/start', { lead_ids, starts_at }, idempotency_key);
    if (started.status !== 201) return;
    const { run_id } = started.body as { run_id: number };
    starts.set(run_id, idempotency_key);
    for (const [what, path, body] of [
      ['pause', `/api/outbound/runs/${run_id}/pause`, {}],
      ['resume', `/api/outbound/runs/${run_id}/resume`, undefined],
      ['cancel a job', `/api/outbound_calls/jobs/${run_id}-1/cancel`, undefined],
      ['stop', '/api/outbound/stop-queue', { run_id }],
    ] as const) {
      const answer = await ask(what, 'POST', path, body);
      if (answer.status === 200) told.set(run_id, (answer.body as { status: string }).status);
    }
  };
  return { starts, told, habit };
}

export const LEADS_UPLOADED = 40;

/** Makes lists and uploads a small file into each. `lists`: what the answer said that each of them took. */
export function uploading() {
  const lists = new Map<number, number>();
  const lines = Array.from({ length: LEADS_UPLOADED }, (_, i) => `+97254${3_000_000 + i}`);
  const file = ['phone', ...lines].join('\n');
  const habit: Habit = async (ask, round) => {
    const made = await ask('make a list', 'POST', '/api/lists', { name: `List ${round}` });
    if (made.status !== 201) return;
    const { list_id } = made.body as { list_id: number };
    const report = await ask('upload', 'POST', `/api/lists/${list_id}/import`, file, randomUUID());
    if (report.status === 200) lists.set(list_id, (report.body as { accepted: number }).accepted);
  };
  return { lists, habit };
}

/** Somebody who follows a run on one connection, and never asks for it again. */
export interface Follower {
  /** What was told, and when, on the clock of `performance.now()`. */
  told: readonly { at_ms: number; status: string; cursor_position: number }[];
  /** The connection has ended; `broken`: not as a stream ends. */
  ended(): boolean;
  broken(): string | null;
}

export function follow(api_url: string, key: string, run_id: number): Follower {
  const told: { at_ms: number; status: string; cursor_position: number }[] = [];
  const state = { ended: false, broken: null as string | null };
  async function read(): Promise<void> {
    const response = await fetch(`${api_url}/api/outbound/runs/${run_id}/events`, {
      headers: { authorization: `Bearer ${key}` },
    });
    if (response.status !== 200 || !response.body) throw new Error(`the stream was answered with ${response.status}`);
    let text = '';
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      const events = (text + chunk).split('\n\n');
      text = events.pop() ?? '';
      for (const event of events) {
        const data = /^data: (.*)$/m.exec(event)?.[1];
        if (data !== undefined) told.push({ ...(JSON.parse(data) as (typeof told)[number]), at_ms: performance.now() });
      }
    }
  }
  read()
    .catch((error: unknown) => void (state.broken = String(error)))
    .finally(() => void (state.ended = true));
  return { told, ended: () => state.ended, broken: () => state.broken };
}
