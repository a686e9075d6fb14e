/**
 * Time is a parameter: the engine is given a clock and never reads one. The monotonic clock stands still while a
 * machine is suspended and the wall clock can be set, so deadlines are checked on both.
 */
export interface Clock {
  /** Milliseconds since some fixed moment; never goes back. */
  monotonicMs(): number;
  /** Milliseconds since 1970. */
  wallMs(): number;
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
};
