import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AuditedRun, createWorld, finishedRun, type World } from './support/world.ts';

let world: World;
beforeAll(async () => void (world = await createWorld()));
afterAll(async () => await world.close());

const NOON_US = 1_900_000_000_000_000;
const MS = 1_000;

/** When an attempt was committed and when its line was free again, in milliseconds after noon. */
type Span = [from_ms: number, to_ms: number];

/**
 * A run whose jobs have had one call each, with the times given: a healthy run's rows, moved by hand. A second run of
 * the same lane likewise.
 */
async function laneWith(
  limits: { lines: number; calls_per_second: number },
  ...spans: Span[][]
): Promise<{ runs: AuditedRun[]; found: () => Promise<string[]> }> {
  const tenant = await world.tenant({ leads: 10, lines: 100, calls_per_second: 1_000 });
  const runs: AuditedRun[] = [];
  for (const mine of spans) {
    const run = await world.run(tenant);
    for (const attempt of await world.call(await world.lease(run), mine.length))
      await world.tell(attempt, {
        kind: 'call',
        call: {
          call_id: `${run.run_id}-${attempt.seq}`,
          phase: 'ended',
          outcome: 'completed',
          duration_s: 1,
          created_at_s: null,
          cause: null,
        },
      });
    for (const [index, [from_ms, to_ms]] of mine.entries())
      await world.rows('UPDATE carillon.attempts SET intent_us = $3, ended_us = $4 WHERE run_id = $1 AND seq = $2', [
        run.run_id,
        index + 1,
        NOON_US + from_ms * MS,
        NOON_US + to_ms * MS,
      ]);
    // Times of another day have nothing to do with the changes of the run.
    await world.rows("UPDATE carillon.audit_events SET at = 'epoch' WHERE subject_id = $1", [String(run.run_id)]);
    runs.push(run);
  }
  await world.rows('UPDATE carillon.lanes SET concurrency_limit = $2, calls_per_second = $3 WHERE business_id = $1', [
    tenant.business_id,
    limits.lines,
    limits.calls_per_second,
  ]);
  return {
    runs,
    async found() {
      const { violations, incomplete } = await world.audit({ business_id: tenant.business_id });
      expect(incomplete).toEqual([]);
      expect(violations.filter(({ invariant }) => invariant !== 5)).toEqual([]);
      return violations.map(({ job_id, what }) => `${job_id}: ${what}`);
    },
  };
}

describe('invariant 5: lines', () => {
  const calm = { calls_per_second: 1_000 };

  it('may all be in use', async () => {
    const lane = await laneWith({ lines: 2, ...calm }, [
      [0, 5_000],
      [1_000, 9_000],
      [5_000, 6_000],
    ]);
    expect(await lane.found()).toEqual([]);
  });

  it('may not be exceeded by one call', async () => {
    const lane = await laneWith({ lines: 2, ...calm }, [
      [0, 5_000],
      [1_000, 9_000],
      [4_999, 6_000],
    ]);
    const [run] = lane.runs;
    expect(await lane.found()).toEqual([
      expect.stringMatching(
        new RegExp(`^${run?.run_id}-3: .*the lane of carrier account \\d+ had 3 live calls; its limit is 2`),
      ),
    ]);
  });

  it('are held by unknown calls until they are settled, and by open ones still', async () => {
    const lane = await laneWith({ lines: 1, ...calm }, [
      [0, 60_000],
      [60_000, 61_000],
    ]);
    const [run] = lane.runs;
    await world.rows("UPDATE carillon.attempts SET outcome = 'unknown', call_id = NULL WHERE run_id = $1 AND seq = 1", [
      run?.run_id,
    ]);
    await world.rows("UPDATE carillon.outbound_call_jobs SET status = 'needs_review' WHERE run_id = $1 AND seq = 1", [
      run?.run_id,
    ]);
    await world.rows(
      'UPDATE carillon.outbound_call_runs SET completed = completed - 1, needs_review = 1 WHERE run_id = $1',
      [run?.run_id],
    );
    expect(await lane.found()).toEqual([]);
    await world.rows('UPDATE carillon.attempts SET ended_us = ended_us + 1 WHERE run_id = $1 AND seq = 1', [
      run?.run_id,
    ]);
    expect(await lane.found()).toEqual([expect.stringMatching(/-2: .* had 2 live calls/)]);
  });

  it('are shared by the runs of a lane, each within its own limit', async () => {
    const both: [Span[], Span[]] = [[[0, 9_000]], [[1_000, 4_000]]];
    expect(await (await laneWith({ lines: 2, ...calm }, ...both)).found()).toEqual([]);
    const one = await laneWith({ lines: 1, ...calm }, ...both);
    expect(await one.found()).toEqual([expect.stringMatching(new RegExp(`^${one.runs[1]?.run_id}-1: .*the lane of`))]);
    const narrow = await laneWith({ lines: 5, ...calm }, [
      [0, 5_000],
      [1_000, 4_000],
    ]);
    await world.rows('UPDATE carillon.outbound_call_runs SET concurrency = 1 WHERE run_id = $1', [
      narrow.runs[0]?.run_id,
    ]);
    expect(await narrow.found()).toEqual([expect.stringMatching(/-2: .* run \d+ had 2 live calls; its limit is 1/)]);
  });

  it('are free for a claim that waited for its count while another run’s call ended, until the next claim', async () => {
    // The claim at 1,000 read the clock, and counted after the call of the other run was over.
    const counted = await laneWith({ lines: 1, ...calm }, [[0, 1_500]], [[1_000, 2_000]]);
    expect(await counted.found()).toEqual([]);
    const again = await laneWith(
      { lines: 1, ...calm },
      [
        [0, 1_500],
        [1_400, 1_450],
      ],
      [[1_000, 1_300]],
    );
    expect(await again.found()).toHaveLength(2);
    // Its own run's calls can't end meanwhile: both need the run's lock.
    const own = await laneWith({ lines: 9, ...calm }, [
      [0, 1_500],
      [1_000, 2_000],
    ]);
    await world.rows('UPDATE carillon.outbound_call_runs SET concurrency = 1 WHERE run_id = $1', [own.runs[0]?.run_id]);
    expect(await own.found()).toHaveLength(1);
  });
});

describe('invariant 5: starts', () => {
  const wide = { lines: 100 };

  it('may be committed ahead, within the time that a claim may take', async () => {
    // At ten a second: now, in 100 ms and in 200 ms.
    const lane = await laneWith({ ...wide, calls_per_second: 10 }, [
      [0, 9_000],
      [0, 9_000],
      [0, 9_000],
      [100, 9_000],
    ]);
    expect(await lane.found()).toEqual([]);
  });

  it('may not be one more than that', async () => {
    const lane = await laneWith({ ...wide, calls_per_second: 10 }, [
      [0, 9_000],
      [0, 9_000],
      [0, 9_000],
      [0, 9_000],
    ]);
    expect(await lane.found()).toEqual([
      expect.stringMatching(
        /-4: Attempt 1 of job \S+ is the 4th start within 0.200 s on carrier account \d+, which may start 10 a second/,
      ),
    ]);
  });

  it('are counted over any span, not by the second', async () => {
    // Eleven in a second at ten a second, with a start at each end, are rate × T + 1; a microsecond less is too short.
    const tenths = Array.from({ length: 10 }, (_, i): Span => [i * 100, i * 100 + 10]);
    expect(await (await laneWith({ ...wide, calls_per_second: 10 }, tenths)).found()).toEqual([]);
    const hasty = Array.from({ length: 10 }, (_, i): Span => [i * 70, i * 70 + 10]);
    expect((await (await laneWith({ ...wide, calls_per_second: 10 }, hasty)).found()).length).toBeGreaterThan(0);
  });

  it('of two runs on one lane are counted together', async () => {
    const apart = (first_ms: number): Span[] => Array.from({ length: 5 }, (_, i) => [first_ms + i * 200, 9_000]);
    expect(await (await laneWith({ ...wide, calls_per_second: 10 }, apart(0), apart(100))).found()).toEqual([]);
    expect(
      (await (await laneWith({ ...wide, calls_per_second: 5 }, apart(0), apart(100))).found()).length,
    ).toBeGreaterThan(0);
  });
});

describe('a clock that was set back', () => {
  it('leaves what lies in its shadow unjudged, and says so', async () => {
    const run = await finishedRun(world);
    const of = { business_id: run.business_id };
    // Seven were on the line at once, behind the pause.
    await world.rows('UPDATE carillon.lanes SET concurrency_limit = 6 WHERE business_id = $1', [run.business_id]);
    expect((await world.audit(of)).violations).toMatchObject([{ invariant: 5 }]);
    await world.rows(
      "UPDATE carillon.audit_events SET at = at + interval '1 hour' WHERE subject_id = $1 AND action = 'run.paused'",
      [String(run.run_id)],
    );
    await world.rows('UPDATE carillon.attempts SET control_epoch = 0 WHERE run_id = $1 AND seq = 9', [run.run_id]);
    const { ok, violations, incomplete } = await world.audit(of);
    expect({ ok, violations }).toEqual({ ok: false, violations: [] });
    expect(incomplete).toMatchObject([
      { invariant: 4, what: expect.stringMatching(/clock was set back: 3[56]\d\d\.\d s/) },
      { invariant: 5 },
    ]);
  });
});
