import { describe, expect, it } from 'vitest';
import { createPacer } from '../src/pacer.ts';

/** A clock that a test sets. */
function handClock(at_ms = 0) {
  const clock = { at_ms, monotonicMs: () => clock.at_ms, wallMs: () => clock.at_ms };
  return clock;
}

describe('the pacer', () => {
  it('lets a start happen when it was planned', () => {
    const pacer = createPacer(handClock());
    expect([100, 150, 200].map((planned_ms) => pacer.place('lane', planned_ms, 50))).toEqual([100, 150, 200]);
  });

  it('keeps the planned distances after a hiccup, instead of sending what piled up at once', () => {
    const clock = handClock();
    const pacer = createPacer(clock);
    pacer.place('lane', 0, 50);
    clock.at_ms = 1_000;
    const starts = [50, 100, 150, 200].map((planned_ms) => pacer.place('lane', planned_ms, 50));
    expect(starts[0]).toBe(1_000);
    for (const [i, start] of starts.entries()) if (i > 0) expect(start - (starts[i - 1] ?? 0)).toBeCloseTo(47.5);
  });

  it('does not let a long stop delay what is claimed after it', () => {
    const clock = handClock();
    const pacer = createPacer(clock);
    pacer.place('lane', 0, 50);
    clock.at_ms = 60_000;
    // Planned before the stop and too late by now: whether they are dialled is not the pacer's to know.
    for (const planned_ms of [50, 100, 150]) pacer.place('lane', planned_ms, 50);
    const starts = [60_020, 60_070, 60_120].map((planned_ms) => pacer.place('lane', planned_ms, 50));
    expect(starts.map((start, i) => start - (60_020 + 50 * i)).every((late_ms) => late_ms < 200)).toBe(true);
  });

  it('catches up in the end, and keeps lanes apart', () => {
    const clock = handClock();
    const pacer = createPacer(clock);
    pacer.place('lane', 0, 50);
    clock.at_ms = 100;
    let last = 0;
    for (let planned_ms = 50; planned_ms <= 5_000; planned_ms += 50) last = pacer.place('lane', planned_ms, 50);
    expect(last).toBe(5_000);
    expect(pacer.place('other', 200, 50)).toBe(200);
  });
});
