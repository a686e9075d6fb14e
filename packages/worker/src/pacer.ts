import type { Clock } from '@carillon/engine';

/** Catching up after a hiccup is limited to five per cent above the planned rate. */
const CATCH_UP = 0.95;

interface LaneTimes {
  planned_ms: number;
  actual_ms: number;
}

/**
 * Keeps a lane's starts at their planned distances within this process. A process that was busy for a moment would
 * otherwise send what piled up all at once, and the carrier would see a burst that nobody planned.
 */
export interface Pacer {
  /**
   * When a start that is planned for `planned_ms` (monotonic) may happen; counts as happening then. `interval_ms`: the
   * distance of two starts at the lane's rate. What lies further apart than that had a pause between, in which a lag is
   * made up for: else one long hiccup would delay everything after it, and each dial past its deadline.
   */
  place(lane: string, planned_ms: number, interval_ms: number): number;
}

const LANES_REMEMBERED = 10_000;

export function createPacer(clock: Clock): Pacer {
  const lanes = new Map<string, LaneTimes>();
  return {
    place(lane, planned_ms, interval_ms) {
      const last = lanes.get(lane);
      const apart_ms = last ? Math.min(planned_ms - last.planned_ms, interval_ms) : 0;
      const spaced_ms = last ? last.actual_ms + apart_ms * CATCH_UP : planned_ms;
      const actual_ms = Math.max(planned_ms, spaced_ms, clock.monotonicMs());
      lanes.delete(lane);
      lanes.set(lane, { planned_ms, actual_ms });
      const oldest = lanes.size > LANES_REMEMBERED ? lanes.keys().next().value : undefined;
      if (oldest !== undefined) lanes.delete(oldest);
      return actual_ms;
    },
  };
}
