import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Invariant, Violation } from '../../src/index.ts';
import { type AuditedRun, createWorld, type World } from './world.ts';

/** What the auditor must say, of the one row that was broken. */
export interface Found {
  invariant: Invariant;
  /** The job's number; left out where it is no job. */
  job?: number;
  attempt?: number;
  what: RegExp;
}

export interface Case {
  name: string;
  /** A healthy run, made by the engine. */
  run: (world: World) => Promise<AuditedRun>;
  /** As the superuser; `{run}`, `{business}` and `{lane}` stand for the run's own. */
  break: readonly string[];
  found: readonly Found[];
}

/**
 * Every case has a run of its own business, made and found healthy before the constraints are taken away. Then each is
 * broken by hand, and the auditor must name exactly what was broken.
 */
export function itFinds(cases: readonly Case[]): void {
  let world: World;
  const runs = new Map<Case, AuditedRun>();

  beforeAll(async () => {
    world = await createWorld();
    for (const one of cases) runs.set(one, await one.run(world));
    expect((await world.audit()).violations).toEqual([]);
    await world.unlock();
  });
  afterAll(async () => await world.close());

  it.each(cases.map((one) => [one.name, one] as const))('%s', async (_, one) => {
    const run = runs.get(one);
    if (!run) throw new Error('the run was not made');
    for (const statement of one.break) await world.rows(filled(statement, run));
    const report = await world.audit({ business_id: run.business_id });
    expect(report.ok).toBe(false);
    expectFound(report.violations, run, one.found);
  });
}

export function expectFound(violations: readonly Violation[], run: AuditedRun, found: readonly Found[]): void {
  expect(violations).toEqual(
    found.map(({ invariant, job, attempt, what }) =>
      expect.objectContaining({
        invariant,
        business_id: run.business_id,
        ...(job !== undefined && { run_id: run.run_id, job_id: `${run.run_id}-${job}` }),
        ...(attempt !== undefined && { attempt }),
        what: expect.stringMatching(what),
      }),
    ),
  );
}

export function filled(statement: string, { run_id, business_id, carrier_account_id }: AuditedRun): string {
  return statement
    .replaceAll('{run}', String(run_id))
    .replaceAll('{business}', String(business_id))
    .replaceAll('{lane}', String(carrier_account_id));
}

/** A further, closed attempt of a job: a second after the one before it, in the run's present control epoch. */
export function attempt(seq: number, attempt_no: number, outcome: string, call_id: string | null): string {
  const call = call_id === null ? 'NULL' : `'${call_id}-{run}'`;
  return `INSERT INTO carillon.attempts
    SELECT business_id, run_id, seq, ${attempt_no}, 0, carrier_account_id, lead_id, 'another token 1234567', worker_id,
      lease_epoch, (SELECT control_epoch FROM carillon.outbound_call_runs WHERE run_id = {run}), from_number,
      (SELECT max(ended_us) + 1000000 FROM carillon.attempts WHERE run_id = {run}), ${call}, NULL, NULL, NULL,
      (SELECT max(ended_us) + 2000000 FROM carillon.attempts WHERE run_id = {run}), NULL, '${outcome}', NULL
    FROM carillon.attempts WHERE run_id = {run} AND seq = ${seq} AND attempt_no = ${attempt_no - 1}
    ORDER BY revision DESC LIMIT 1`;
}

/** A change of the run's row that the trail knows of: nothing but what is broken beside it may be noticed. */
export function status(to: string, action = to): string {
  return `WITH before AS (SELECT * FROM carillon.outbound_call_runs WHERE run_id = {run}),
    event AS (
      INSERT INTO carillon.audit_events (business_id, kind, action, actor, subject_type, subject_id, before, after, at)
      SELECT business_id, 'change', 'run.${action}', 'test', 'run', run_id::text,
        jsonb_build_object('status', status, 'control_epoch', control_epoch),
        jsonb_build_object('status', '${to}', 'control_epoch', control_epoch), clock_timestamp() FROM before)
    UPDATE carillon.outbound_call_runs SET status = '${to}',
      ended_at = CASE WHEN '${to}' IN ('completed', 'failed', 'cancelled') THEN now() END WHERE run_id = {run}`;
}

/** Moves one job between two counters. */
export function count(from: string, to: string): string {
  return `UPDATE carillon.outbound_call_runs SET ${from} = ${from} - 1, ${to} = ${to} + 1 WHERE run_id = {run}`;
}
