/** Waiting that can be cut short: every wait of the worker ends early when something is signalled or it stops. */
export interface Signal {
  /** Resolves after `ms` or at the next `notify`, whichever comes first. */
  wait(ms: number): Promise<void>;
  notify(): void;
}

export function createSignal(): Signal {
  const waiting = new Set<() => void>();
  // A notify between two waits must not be lost: the next wait returns at once.
  let pending = false;
  return {
    async wait(ms) {
      if (pending) {
        pending = false;
        return;
      }
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          waiting.delete(done);
          resolve();
        };
        const timer = setTimeout(done, ms);
        waiting.add(done);
      });
    },
    notify() {
      if (waiting.size === 0) pending = true;
      for (const done of waiting) done();
    },
  };
}
