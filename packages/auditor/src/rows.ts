import {
  CALL_OUTCOMES,
  type JobStatus,
  NO_CALL_OUTCOMES,
  type Outcome,
  RUN_STATUSES,
  type RunStatus,
} from '@carillon/contract';
import { z } from 'zod';
import type { Snapshot } from './snapshot.ts';

/**
 * What the auditor reads, in its own SQL, page by page along the primary keys. All times in microseconds of the
 * database's clock. A row that has not this shape is an error, never skipped.
 */

const us = z.number().nullable();
const count = z.number();

const RunRow = z.object({
  run_id: z.number(),
  status: z.enum(RUN_STATUSES),
  carrier_account_id: z.number(),
  concurrency: count,
  policy: z.object({
    retry: z.record(z.string(), z.object({ times: count, after_s: count })).default({}),
    review_always: z.boolean().default(false),
  }),
  total_leads: count,
  filled_seq: count,
  claim_cursor: count,
  queued: count,
  waiting: count,
  in_progress: count,
  completed: count,
  failed: count,
  cancelled: count,
  skipped: count,
  needs_review: count,
  cursor_position: count,
  control_epoch: count,
  cancel_requested: z.boolean(),
  locked_by_worker: z.string().nullable(),
  lock_us: us,
  starts_us: us,
  ends_us: us,
  created_us: z.number(),
  updated_us: z.number(),
  ended_us: us,
});
export type RunRow = z.infer<typeof RunRow>;

export const FINAL_RUNS: readonly RunStatus[] = ['completed', 'failed', 'cancelled'];
/** Whose queued and waiting jobs are cancelled, whatever their rows say. */
export const STOPPED_RUNS: readonly RunStatus[] = ['cancelling', 'cancelled', 'failed'];

const RUNS = `
  SELECT run_id, status, carrier_account_id, concurrency, policy, total_leads, filled_seq, claim_cursor,
    queued, waiting, in_progress, completed, failed, cancelled, skipped, needs_review, cursor_position, control_epoch,
    cancel_requested_at IS NOT NULL AS cancel_requested, locked_by_worker,
    (extract(epoch FROM lock_ts) * 1000000)::bigint AS lock_us,
    (extract(epoch FROM starts_at) * 1000000)::bigint AS starts_us,
    (extract(epoch FROM ends_at) * 1000000)::bigint AS ends_us,
    (extract(epoch FROM created_at) * 1000000)::bigint AS created_us,
    (extract(epoch FROM updated_at) * 1000000)::bigint AS updated_us,
    (extract(epoch FROM ended_at) * 1000000)::bigint AS ended_us
  FROM carillon.outbound_call_runs
  WHERE business_id = $1 AND run_id > $2 AND ($3::bigint IS NULL OR run_id = $3)
  ORDER BY run_id LIMIT $4`;

const PAGE_RUNS = 100;

/** The runs of the business, or the one. */
export async function* readRuns(snapshot: Snapshot, only: number | null): AsyncGenerator<RunRow> {
  for (let after = 0; ; ) {
    const page = await snapshot.query<object>(RUNS, [snapshot.business_id, after, only, PAGE_RUNS]);
    for (const row of page) {
      const run = RunRow.parse(row);
      yield run;
      after = run.run_id;
    }
    if (page.length < PAGE_RUNS) return;
  }
}

export interface JobRow {
  seq: number;
  lead_id: number;
  status: JobStatus;
  attempts: number;
  last_outcome: Outcome | null;
}

interface AttemptRow {
  seq: number;
  attempt_no: number;
  revision: number;
  lead_id: number;
  carrier_account_id: number;
  control_epoch: number;
  from_number: string;
  intent_us: number;
  call_id: string | null;
}

/** A closed attempt as one revision of the history has it. */
export interface ClosedRow extends AttemptRow {
  ended_us: number;
  outcome: Outcome;
}

export interface OpenRow extends AttemptRow {
  state: 'dialing' | 'placed' | 'ringing' | 'in_call' | 'unknown';
  deadline_us: number;
  placed_us: number | null;
  call_max_ms: number;
}

/** Everything that the tables hold of one job. `row` null: rows that belong to no job. */
export interface JobRecord {
  seq: number;
  row: JobRow | null;
  /** When it is due; more than one, or one that is not waiting, is a contradiction. */
  schedule: number[];
  open: OpenRow[];
  /** In the order of attempts and revisions. */
  closed: ClosedRow[];
  /** What is known best of each attempt, in the order of their numbers. */
  tries: Try[];
}

const JOBS = `
  SELECT seq, lead_id, status, attempts, last_outcome FROM carillon.outbound_call_jobs
  WHERE business_id = $1 AND run_id = $2 AND seq > $3 ORDER BY seq LIMIT $4`;
const SCHEDULE = `
  SELECT seq, due_us FROM carillon.job_schedule
  WHERE business_id = $1 AND run_id = $2 AND seq > $3 AND seq <= $4 ORDER BY seq`;
const OPEN = `
  SELECT seq, attempt_no, revision, lead_id, carrier_account_id, control_epoch, from_number, intent_us, call_id, state,
    deadline_us, placed_us, call_max_ms
  FROM carillon.open_attempts WHERE business_id = $1 AND run_id = $2 AND seq > $3 AND seq <= $4 ORDER BY seq`;
const CLOSED = `
  SELECT seq, attempt_no, revision, lead_id, carrier_account_id, control_epoch, from_number, intent_us, call_id,
    ended_us, outcome
  FROM carillon.attempts WHERE business_id = $1 AND run_id = $2 AND seq > $3 AND seq <= $4
  ORDER BY seq, attempt_no, revision`;

/** The statements of the pages, for the test that looks at their plans. */
export const PAGE_STATEMENTS = { RUNS, JOBS, SCHEDULE, OPEN, CLOSED };

const PAGE_JOBS = 2_000;
const SEQ_MAX = 2_147_483_647;

/** A run's jobs with all that belongs to them, in pages. What belongs to no job comes with the page that it falls into. */
export async function* readJobs(snapshot: Snapshot, run_id: number): AsyncGenerator<JobRecord[]> {
  for (let after = 0; ; ) {
    const key = [snapshot.business_id, run_id, after];
    const rows = await snapshot.query<JobRow>(JOBS, [...key, PAGE_JOBS]);
    const to = rows.length === PAGE_JOBS ? (rows.at(-1)?.seq ?? SEQ_MAX) : SEQ_MAX;
    const [schedule, open, closed] = await Promise.all([
      snapshot.query<{ seq: number; due_us: number }>(SCHEDULE, [...key, to]),
      snapshot.query<OpenRow>(OPEN, [...key, to]),
      snapshot.query<ClosedRow>(CLOSED, [...key, to]),
    ]);
    const records = new Map<number, JobRecord>();
    const of = (seq: number): JobRecord => {
      let record = records.get(seq);
      if (!record) records.set(seq, (record = { seq, row: null, schedule: [], open: [], closed: [], tries: [] }));
      return record;
    };
    for (const row of rows) of(row.seq).row = row;
    for (const { seq, due_us } of schedule) of(seq).schedule.push(due_us);
    for (const row of open) of(row.seq).open.push(row);
    for (const row of closed) of(row.seq).closed.push(row);
    for (const record of records.values()) record.tries = triesOf(record);
    yield [...records.values()];
    if (to === SEQ_MAX) return;
    after = to;
  }
}

/** One attempt, as what is known best of it says: its open row, else the highest revision of its history. */
export interface Try {
  attempt_no: number;
  revision: number;
  lead_id: number;
  carrier_account_id: number;
  control_epoch: number;
  from_number: string;
  intent_us: number;
  call_id: string | null;
  /** Null while it is open. */
  outcome: Outcome | null;
  ended_us: number | null;
  /** When its outcome was first believed to be known. */
  first_ended_us: number | null;
}

function triesOf({ open, closed }: Pick<JobRecord, 'open' | 'closed'>): Try[] {
  const tries = new Map<number, Try>();
  for (const row of closed) {
    const first_ended_us = tries.get(row.attempt_no)?.first_ended_us ?? row.ended_us;
    tries.set(row.attempt_no, { ...row, first_ended_us });
  }
  for (const row of open) {
    const first_ended_us = tries.get(row.attempt_no)?.first_ended_us ?? null;
    tries.set(row.attempt_no, { ...row, outcome: null, ended_us: null, first_ended_us });
  }
  return [...tries.values()].sort((a, b) => a.attempt_no - b.attempt_no);
}

export function tookPlace(outcome: Outcome | null): boolean {
  return (CALL_OUTCOMES as readonly (Outcome | null)[]).includes(outcome);
}

/** True where certainly no call was made. An open attempt, and one of which nobody can say, may have been one. */
export function madeNoCall(outcome: Outcome | null): boolean {
  return (NO_CALL_OUTCOMES as readonly (Outcome | null)[]).includes(outcome);
}

export interface RunEvent {
  event_id: number;
  action: string;
  actor: string;
  at_us: number;
  before_status: string | null;
  before_epoch: number | null;
  after_status: string | null;
  after_epoch: number | null;
}

const EVENTS = `
  SELECT event_id, action, actor, (extract(epoch FROM at) * 1000000)::bigint AS at_us,
    before ->> 'status' AS before_status, (before -> 'control_epoch')::text AS before_epoch,
    after ->> 'status' AS after_status, (after -> 'control_epoch')::text AS after_epoch
  FROM carillon.audit_events
  WHERE business_id = $1 AND subject_type = 'run' AND subject_id = $2 AND event_id > $3
    AND kind = 'change' AND after ? 'status' ORDER BY event_id LIMIT $4`;

const PAGE_EVENTS = 5_000;

/**
 * What the trail holds of a run's changes of state, in the order in which they were written. What else was done to it,
 * or was tried with its number before it was there, bears no state.
 */
export async function readEvents(snapshot: Snapshot, run_id: number): Promise<RunEvent[]> {
  type Row = Omit<RunEvent, 'before_epoch' | 'after_epoch'> & {
    before_epoch: string | null;
    after_epoch: string | null;
  };
  const epoch = (text: string | null) => (text === null || !/^\d{1,9}$/.test(text) ? null : Number(text));
  const events: RunEvent[] = [];
  for (;;) {
    const params = [snapshot.business_id, String(run_id), events.at(-1)?.event_id ?? 0, PAGE_EVENTS];
    const page = await snapshot.query<Row>(EVENTS, params);
    for (const row of page)
      events.push({ ...row, before_epoch: epoch(row.before_epoch), after_epoch: epoch(row.after_epoch) });
    if (page.length < PAGE_EVENTS) return events.filter(({ after_status }) => after_status !== null);
  }
}
