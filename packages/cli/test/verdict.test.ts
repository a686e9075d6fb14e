import type { ImportReport, Job, Run } from '@carillon/contract';
import { describe, expect, it } from 'vitest';
import { compareWithLedger, type LedgerCall } from '../src/demo/ledger.ts';
import { judge } from '../src/demo/verdict.ts';

function job(seq: number, changes: Partial<Job> = {}): Job {
  return {
    job_id: `3-${seq}`,
    run_id: 3,
    lead_id: seq,
    phone: `+97250000000${seq}`,
    lead_name: null,
    status: 'completed',
    attempts: 1,
    last_outcome: 'completed',
    reason: null,
    due_at: null,
    updated_at: '2026-03-01T10:00:00.000Z',
    ...changes,
  };
}

function callTo(seq: number, changes: Partial<LedgerCall> = {}): LedgerCall {
  return { sid: `CA${seq}`, to: `+97250000000${seq}`, seq, ...changes };
}

describe('the carrier’s books', () => {
  it('agree where each lead that was called has one call there, and each that was not has none', () => {
    const jobs = [
      job(1),
      job(2, { status: 'failed', last_outcome: 'busy' }),
      job(3, { status: 'failed', last_outcome: 'rejected' }),
    ];
    expect(compareWithLedger(jobs, [callTo(1), callTo(2)])).toEqual({ calls: 2, numbers: 2, differences: [] });
  });

  it.each([
    ['a call that is not there', [job(1)], [], 'job 3-1 (completed) should have 1 calls, and the carrier has 0'],
    ['a second call', [job(1)], [callTo(1), callTo(1, { sid: 'CAx' })], 'and the carrier has 2'],
    [
      'a call for a refused lead',
      [job(1, { status: 'failed', last_outcome: 'rejected' })],
      [callTo(1)],
      'have 0 calls',
    ],
    [
      'a call for a lead that nobody called',
      [job(1, { status: 'cancelled', last_outcome: null })],
      [callTo(1)],
      'have 0',
    ],
    ['a call to another number', [job(1)], [callTo(1, { to: '+15550001' })], 'call CA1 went to another number'],
    ['a call for no job', [job(1)], [callTo(1), callTo(9)], 'call CA9 belongs to no job'],
  ])('differ by %s', (_, jobs, calls, difference) => {
    expect(compareWithLedger(jobs, calls).differences).toEqual([expect.stringContaining(difference)]);
  });
});

const report: ImportReport = {
  list_id: 1,
  import_id: 1,
  lines: 4,
  accepted: 2,
  duplicates: 1,
  rejected: 1,
  updated: 0,
  reasons: {},
  file: null,
  rejected_url: '/x',
};
// Only what is looked at: the rest of a run's fields is passed through.
const run = { run_id: 3, status: 'completed', total_leads: 2, completed: 2, last_error: null } as Run;
const zero = { queued: 0, waiting: 0, in_progress: 0, failed: 0, cancelled: 0, skipped: 0, needs_review: 0 };
const whole = { ...run, ...zero };

describe('the verdict', () => {
  const jobs = [job(1), job(2)];
  const calls = [callTo(1), callTo(2)];

  it('has exactly the fields that programs rely on', () => {
    const { verdict, problems } = judge(report, whole, jobs, calls);
    expect(problems).toEqual([]);
    expect(verdict).toEqual({
      ok: true,
      lines: 4,
      accepted: 2,
      duplicates: 1,
      rejected: 1,
      run: whole,
      carrier: { calls: 2, numbers: 2 },
    });
  });

  it.each([
    ['a line that is nowhere', { ...report, lines: 5 }, whole, jobs, calls],
    ['a lead that is not in the run', { ...report, accepted: 3, lines: 5 }, whole, jobs, calls],
    ['a run that did not complete', report, { ...whole, status: 'cancelled' as const }, jobs, calls],
    ['counters that do not add up', report, { ...whole, completed: 1 }, jobs, calls],
    ['a lead that nobody knows of', report, { ...whole, completed: 1, needs_review: 1 }, jobs, calls],
    ['a job that is missing', report, whole, [job(1)], [callTo(1)]],
    ['books that differ', report, whole, jobs, [callTo(1)]],
  ])('is no for %s', (_, imported, seen, all, made) => {
    const { verdict, problems } = judge(imported, seen, all, made);
    expect(verdict.ok).toBe(false);
    expect(problems.length).toBeGreaterThan(0);
  });
});
