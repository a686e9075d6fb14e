/**
 * GCRA: a lane's starts are spaced by 1/rate. Its one number is the theoretical arrival time (TAT) of the next start,
 * in microseconds of the database's clock, kept on the lane's row and changed under its lock. A burst of one: in any
 * span T there are at most rate × T + 1 starts.
 */
export interface Pace {
  /** Start times in microseconds, ascending; as many as may start within `ahead_us` and until `ends_us`, at most `wanted`. */
  starts_us: number[];
  tat_us: number;
}

export function pace(options: {
  tat_us: number;
  now_us: number;
  /** How far ahead a claim may take. */
  ahead_us: number;
  /** Nothing starts after this. */
  ends_us: number;
  calls_per_second: number;
  wanted: number;
}): Pace {
  const interval_us = Math.ceil(1_000_000 / options.calls_per_second);
  const starts_us: number[] = [];
  let tat_us = Math.max(options.tat_us, options.now_us);
  const ahead_us = options.now_us + options.ahead_us;
  // A clock set back leaves a TAT far ahead: more than one interval beyond what a claim may take was never promised to
  // anyone. The next start is now, perhaps one too many; any later one might lie beyond that itself, and never come.
  // By what any claim of the lane may take, not by the end of this run: another's starts may well lie behind that.
  if (tat_us > ahead_us + interval_us) tat_us = options.now_us;
  while (starts_us.length < options.wanted && tat_us <= Math.min(ahead_us, options.ends_us)) {
    starts_us.push(tat_us);
    tat_us += interval_us;
  }
  return { starts_us, tat_us: starts_us.length > 0 ? tat_us : options.tat_us };
}
