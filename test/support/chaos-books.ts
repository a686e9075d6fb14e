import { CallbackPath } from '@carillon/contract';
import type { AttemptRow, Call, JobRow, RunRow } from '../../chaos/books.ts';
import type { Business } from '../../chaos/businesses.ts';
import type { Evidence } from '../../chaos/judge.ts';
import type { Observed } from '../../chaos/verdict.ts';

/** Books made up for the judge of a chaos trial. */

export const SECOND_US = 1_000_000;
const TOKEN = 'A'.repeat(22);

function attemptOf(seq: number, attempt_no = 1): CallbackPath {
  const texts = { driver: 'twilio', business_id: '1', carrier_account_id: '1', run_id: '1', token: TOKEN };
  return CallbackPath.parse({ ...texts, seq: String(seq), attempt_no: String(attempt_no) });
}

/** A call of two seconds, from `at_s` on. */
export function call(seq: number, at_s: number, more: Partial<Call> & { attempt_no?: number } = {}): Call {
  const { attempt_no = 1, ...rest } = more;
  return {
    sid: `CA${seq}.${attempt_no}`,
    account: 'AC1',
    to: `+9725230000${seq}`,
    created_us: at_s * SECOND_US,
    ended_us: (at_s + 2) * SECOND_US,
    status: 'completed',
    attempt: attemptOf(seq, attempt_no),
    ...rest,
  };
}

export function attempt(seq: number, at_s: number, more: Partial<AttemptRow> = {}): AttemptRow {
  const key = { business_id: 1, run_id: 1, seq, attempt_no: 1, carrier_account_id: 1 };
  return { ...key, intent_us: at_s * SECOND_US, outcome: 'completed', cause: null, ...more };
}

export const job = (seq: number, more: Partial<JobRow> = {}): JobRow => ({
  business_id: 1,
  run_id: 1,
  seq,
  phone: `+9725230000${seq}`,
  status: 'completed',
  last_outcome: 'completed',
  reason: null,
  ...more,
});

export const RUN: RunRow = {
  business_id: 1,
  run_id: 1,
  status: 'completed',
  total_leads: 2,
  concurrency: 2,
  reclaim_count: 0,
  last_error: null,
};

/** Two leads of one run, called once each, one second apart. */
export function healthy(): Evidence {
  const campaign = { list_id: 1, carrier_account_id: 1, leads: 2, concurrency: 2, starts_at_ms: 0 };
  const business: Business = {
    business_id: 1,
    name: 'one',
    key: '',
    policy: {},
    accounts: [{ account_sid: 'AC1', carrier_account_id: 1, lines: 2, calls_per_second: 1 }],
    campaigns: [campaign],
  };
  return {
    businesses: [business],
    workload: {
      started: [{ business, campaign, run_id: 1, uncertain: false }],
      promised: [],
      asked: { stops: new Set(), job_cancels: new Set(), resolved: new Map(), reviews: new Map() },
      wrong: [],
    },
    rows: { runs: [RUN], jobs: [job(1), job(2)], attempts: [attempt(1, 10), attempt(2, 11)], earlier: [] },
    calls: [call(1, 10), call(2, 11)],
  };
}

/** Nothing was seen beside them. */
export const CALM: Observed = {
  open: { runs: 0, 'live calls': 0 },
  unplanned: [],
  put_off: {},
  restores: [],
  recoveries: [],
  audited: { violations: [], incomplete: [] },
};
