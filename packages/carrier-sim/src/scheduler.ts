export interface Scheduler {
  /** Runs `act` after `delay_ms` (at once, but not in this turn, when that is past), unless cancelled or closed before. Returns the way to cancel. */
  after(delay_ms: number, act: () => void): () => void;
  /** Resolves after `delay_ms`; never once the scheduler is closed. */
  sleep(delay_ms: number): Promise<void>;
  close(): void;
}

/** All timers of one simulator, so that closing it leaves none behind. */
export function createScheduler(): Scheduler {
  const timers = new Set<NodeJS.Timeout>();
  let closed = false;

  function after(delay_ms: number, act: () => void): () => void {
    if (closed) return () => {};
    const timer = setTimeout(
      () => {
        timers.delete(timer);
        act();
      },
      Math.max(0, delay_ms),
    );
    timers.add(timer);
    return () => {
      clearTimeout(timer);
      timers.delete(timer);
    };
  }

  return {
    after,
    sleep: (delay_ms) => new Promise((resolve) => after(delay_ms, resolve)),
    close() {
      closed = true;
      for (const timer of timers) clearTimeout(timer);
      timers.clear();
    },
  };
}
