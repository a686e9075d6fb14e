import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  ATTEMPT_STATES,
  effectiveJobStatus,
  ERRORS,
  errorSentence,
  JOB_STATES,
  JOB_STATUSES,
  OUTCOME_STATES,
  OUTCOMES,
  RUN_STATES,
  RUN_STATUSES,
  type StateRow,
} from '../src/index.ts';
import { whoWrites } from './who-writes.ts';

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

const TABLES: Record<Parameters<typeof whoWrites>[0], Record<string, StateRow>> = {
  runs: RUN_STATES,
  jobs: JOB_STATES,
  open_attempts: ATTEMPT_STATES,
  attempts: OUTCOME_STATES,
};

/** What writes a run's state with its counters, and never changes it. */
const NEVER_ENDS_A_RUN = {
  'call/resolve': 'a run that has not ended has another job to do than those under review',
};

describe('the tables of states', () => {
  it('are those that the database allows', () => {
    expect(Object.keys(RUN_STATES).toSorted()).toEqual(checked('0004_runs_and_jobs.sql', 'status'));
    expect(Object.keys(JOB_STATES).toSorted()).toEqual(checkedJobs());
    expect(Object.keys(ATTEMPT_STATES).toSorted()).toEqual(checked('0005_attempts.sql', 'state'));
    expect([...OUTCOMES].toSorted()).toEqual(checked('0005_attempts.sql', 'outcome'));
    expect(Object.keys(OUTCOME_STATES).toSorted()).toEqual([...OUTCOMES].toSorted());
  });

  it('name an entry and a reaper for each, and an exit for each that is not final', () => {
    for (const table of Object.values(TABLES))
      for (const [state, row] of Object.entries(table)) {
        expect(Object.keys(row.entered_by), state).not.toEqual([]);
        if (!row.final) expect(Object.keys(row.left_by), state).not.toEqual([]);
        for (const words of [...Object.values(row.entered_by), ...Object.values(row.left_by), row.reaper])
          expect(words.length, state).toBeGreaterThan(3);
      }
  });

  describe.each(Object.entries(TABLES))('of %s', (name, table) => {
    const written = whoWrites(name as keyof typeof TABLES);
    const named = new Set(
      Object.values(table).flatMap((row) => [...Object.keys(row.entered_by), ...Object.keys(row.left_by)]),
    );

    it('name every file of the engine that writes one, and no other', () => {
      for (const file of named)
        expect(existsSync(new URL(`../../engine/src/${file}.ts`, import.meta.url)), file).toBe(true);
      const files = written.map(({ file }) => file).filter((file) => name !== 'runs' || !(file in NEVER_ENDS_A_RUN));
      expect([...named].toSorted()).toEqual(files.toSorted());
    });

    it('name as an entry who writes the state in so many words', () => {
      const said = written.flatMap(({ file, states }) => states.map((state) => `${file} enters ${state}`));
      const listed = Object.entries(table).flatMap(([state, row]) =>
        Object.keys(row.entered_by).map((file) => `${file} enters ${state}`),
      );
      expect(said.filter((one) => !listed.includes(one))).toEqual([]);
    });

    it('name as an entry nobody who has no word for the state', () => {
      const mute = Object.entries(table).flatMap(([state, row]) =>
        Object.keys(row.entered_by).filter((file) => !written.some((one) => one.file === file && one.spells(state))),
      );
      expect(mute).toEqual([]);
    });
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
