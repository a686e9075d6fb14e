import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  ATTEMPT_STATES,
  effectiveJobStatus,
  ERRORS,
  errorSentence,
  JOB_STATES,
  JOB_STATUSES,
  OUTCOMES,
  RUN_STATES,
  RUN_STATUSES,
} from '../src/index.ts';

/** The states that the database's CHECKs allow, read from the migrations. */
function checked(file: string, column: string): string[] {
  const sql = readFileSync(new URL(`../../engine/migrations/${file}`, import.meta.url), 'utf8');
  const found = new RegExp(`\\b${column}\\b[^,]*CHECK \\(${column} IN\\s*\\(([^)]*)\\)`).exec(sql);
  return [...(found?.[1]?.matchAll(/'(\w+)'/g) ?? [])].map((match) => match[1] ?? '').toSorted();
}

function checkedJobs(): string[] {
  const sql = readFileSync(new URL('../../engine/migrations/0004_runs_and_jobs.sql', import.meta.url), 'utf8');
  const jobs = sql.slice(sql.indexOf('carillon.outbound_call_jobs ('));
  const found = /CHECK \(status IN\s*\(([^)]*)\)/.exec(jobs);
  return [...(found?.[1]?.matchAll(/'(\w+)'/g) ?? [])].map((match) => match[1] ?? '').toSorted();
}

describe('the tables of states', () => {
  it('are those that the database allows', () => {
    expect(Object.keys(RUN_STATES).toSorted()).toEqual(checked('0004_runs_and_jobs.sql', 'status'));
    expect(Object.keys(JOB_STATES).toSorted()).toEqual(checkedJobs());
    expect(Object.keys(ATTEMPT_STATES).toSorted()).toEqual(checked('0005_attempts.sql', 'state'));
    expect([...OUTCOMES].toSorted()).toEqual(checked('0005_attempts.sql', 'outcome'));
  });

  it('name an entry, an exit and a reaper for each', () => {
    for (const table of [RUN_STATES, JOB_STATES, ATTEMPT_STATES])
      for (const [state, row] of Object.entries(table)) {
        expect(row.entered_by.length, state).toBeGreaterThan(3);
        expect(row.left_by.length, state).toBeGreaterThan(3);
        expect(row.reaper.length, state).toBeGreaterThan(3);
      }
  });

  it('make a queued or waiting job of a stopped run cancelled, and no other', () => {
    for (const run of RUN_STATUSES)
      for (const job of JOB_STATUSES) {
        const stopped = run === 'cancelling' || run === 'cancelled' || run === 'failed';
        const open = job === 'queued' || job === 'waiting';
        expect(effectiveJobStatus(run, job)).toBe(stopped && open ? 'cancelled' : job);
      }
  });
});

describe('the errors', () => {
  it('have a sentence in both languages, with the same places to fill', () => {
    const places = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).toSorted();
    for (const [code, row] of Object.entries(ERRORS)) {
      expect(row.he, code).toMatch(/[\u05D0-\u05EA]/);
      expect(places(row.he), code).toEqual(places(row.en));
      expect(row.http, code).toBeGreaterThanOrEqual(400);
    }
    expect(errorSentence('run_not_found', 'he')).toBe('הרצה לא נמצאה');
    expect(errorSentence('run_state_conflict', 'en', { status: 'failed', action: 'paused' })).toBe(
      'A run that is failed can not be paused',
    );
  });
});
