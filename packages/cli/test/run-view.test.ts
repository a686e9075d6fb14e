import type { Run } from '@carillon/contract';
import { describe, expect, it } from 'vitest';
import { createRunView } from '../src/run/view.ts';

const plain = { paint: (_: string, text: string) => text };

function runOf(changes: Partial<Run>): Run {
  return {
    run_id: 7,
    name: 'a run',
    status: 'running',
    total_leads: 1_000,
    queued: 0,
    waiting: 0,
    in_progress: 0,
    completed: 0,
    failed: 0,
    cancelled: 0,
    skipped: 0,
    needs_review: 0,
    cursor_position: 0,
    concurrency: 40,
    list_id: 1,
    from_run_id: null,
    carrier_account_id: 1,
    last_error: null,
    waiting_reason: null,
    created_at: '2026-03-01T10:00:00.000Z',
    created_by_user_id: null,
    created_by: 'cli',
    starts_at: null,
    ends_at: null,
    started_at: null,
    updated_at: '2026-03-01T10:00:00.000Z',
    ended_at: null,
    cancel_requested: false,
    can_cancel: true,
    locked_by_worker: 'w',
    lock_ts: null,
    reclaim_count: 0,
    ...changes,
  };
}

describe('the view of a run', () => {
  it('tells done, live, the rate of starts, the time left and the split by outcome', () => {
    const view = createRunView(plain);
    view.observe(runOf({ cursor_position: 0, in_progress: 10 }), new Map(), 1_000);
    const split = new Map([
      ['failed', 5],
      ['completed', 60],
      ['no_answer', 15],
    ]);
    view.observe(runOf({ cursor_position: 80, in_progress: 40 }), split, 3_000);
    // 110 more were started in 2 s; 80 ended in 2 s, and 920 are left.
    expect(view.line()).toBe(
      'Run 7: 80/1,000 (8 %), 40 live, 55 calls/s, 23 s left; answered 60, no answer 15, failed 5',
    );
    expect(view.frame()).toEqual({
      title: 'Run 7',
      progress: 0.08,
      figures: '80/1,000  8 %',
      below: [
        ['40 live', '55 calls/s', '23 s left'],
        ['answered 60', 'no answer 15', 'failed 5'],
      ],
    });
  });

  it('never says 100 % before all are done', () => {
    const view = createRunView(plain);
    view.observe(runOf({ cursor_position: 999 }), new Map(), 0);
    expect(view.frame().figures).toBe('999/1,000  99 %');
    // 0.57 × 100 is a little less than 57.
    view.observe(runOf({ cursor_position: 57, total_leads: 100 }), new Map(), 1);
    expect(view.frame().figures).toBe('57/100  57 %');
  });

  it('forgets how fast it was some time ago', () => {
    const view = createRunView(plain);
    view.observe(runOf({ cursor_position: 0 }), new Map(), 0);
    view.observe(runOf({ cursor_position: 500 }), new Map(), 1_000);
    for (let at_ms = 2_000; at_ms <= 20_000; at_ms += 1_000)
      view.observe(runOf({ cursor_position: 500 }), new Map(), at_ms);
    expect(view.line()).toBe('Run 7: 500/1,000 (50 %), 0 live');
  });

  it('says why nothing is being called', () => {
    const view = createRunView(plain);
    view.observe(runOf({ status: 'paused', waiting_reason: 'paused from the command line' }), new Map(), 0);
    expect(view.line()).toContain('paused from the command line');
    view.observe(runOf({ status: 'cancelling' }), new Map(), 1);
    expect(view.line()).toContain('cancelling');
  });

  it('has a word for an outcome that it does not know', () => {
    const view = createRunView(plain);
    view.observe(runOf({}), new Map([['teleported', 2]]), 0);
    expect(view.line()).toContain('teleported 2');
  });

  it('is empty before the first look', () => {
    const view = createRunView(plain);
    expect(view.line()).toBe('');
    expect(view.frame().below).toHaveLength(2);
  });
});
