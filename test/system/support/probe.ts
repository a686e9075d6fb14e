import { setTimeout as pause } from 'node:timers/promises';

const EVERY_MS = 20;

/** A time in which the carrier may have stood still, by the wall clock that it shares with us. */
export interface Stall {
  from_us: number;
  to_us: number;
}

export const lengthMs = ({ from_us, to_us }: Stall): number => (to_us - from_us) / 1_000;

/**
 * Asks the simulated carrier for its totals all the time. Returns a function that ends it and tells when an answer was
 * slow: the carrier can have stood still then (a collection of garbage, a machine with more to do than it can), and
 * what reached it meanwhile it books as one burst when it goes on, however evenly it was sent.
 */
export function watchCarrier(simUrl: string): () => Promise<Stall[]> {
  const stop = new AbortController();
  const stalls: Stall[] = [];
  async function watch(): Promise<void> {
    for (let from_ms = Date.now(); !stop.signal.aborted; from_ms = Date.now()) {
      await pause(EVERY_MS);
      await (await fetch(`${simUrl}/_sim/totals`)).text();
      // From before the pause: it may have stood still in it, too.
      const stall = { from_us: from_ms * 1_000, to_us: Date.now() * 1_000 };
      if (lengthMs(stall) > 2 * EVERY_MS) stalls.push(stall);
    }
  }
  const watching = watch();
  watching.catch(() => {});
  return async () => {
    stop.abort();
    await watching;
    return stalls;
  };
}
