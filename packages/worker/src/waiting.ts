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

/** The worker's end: known at once to everyone who waits for it. */
export function createStop() {
  const signals = new Set<() => void>();
  const stop = {
    is: false,
    /** Waits end early when the worker stops, and never before. */
    signal: {
      async wait(ms: number) {
        if (stop.is) return;
        await new Promise<void>((resolve) => {
          const done = () => {
            clearTimeout(timer);
            signals.delete(done);
            resolve();
          };
          const timer = setTimeout(done, ms);
          signals.add(done);
        });
      },
      notify() {},
    } satisfies Signal,
    now() {
      stop.is = true;
      for (const done of signals) done();
    },
  };
  return stop;
}

/** Waits for `work`, but no longer than `ms`: a stop must end, and what is left is found by the reapers. */
export async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([work, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]).finally(() =>
    clearTimeout(timer),
  );
}

/** Queues by name: what is given to one queue runs one after the other, in order. */
export function createQueues() {
  const tails = new Map<string, Promise<void>>();
  return {
    async inTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
      const before = tails.get(name) ?? Promise.resolve();
      const mine = before.then(work, work);
      const tail: Promise<void> = mine.then(forget, forget);
      tails.set(name, tail);
      function forget(): void {
        if (tails.get(name) === tail) tails.delete(name);
      }
      return await mine;
    },
  };
}
