import { setTimeout as pause } from 'node:timers/promises';

const EVERY_MS = 20;

/**
 * Asks the simulated carrier for its totals all the time. Returns a function that ends it and tells the longest time,
 * in milliseconds, that the carrier can have stood still meanwhile (a collection of garbage, a machine with more to do
 * than it can): what reached it in that time it books as one burst when it goes on, however evenly it was sent.
 */
export function watchCarrier(simUrl: string): () => Promise<number> {
  const stop = new AbortController();
  let longest_ms = 0;
  async function watch(): Promise<void> {
    while (!stop.signal.aborted) {
      const asked_ms = performance.now();
      await (await fetch(`${simUrl}/_sim/totals`)).text();
      longest_ms = Math.max(longest_ms, performance.now() - asked_ms);
      await pause(EVERY_MS);
    }
  }
  const watching = watch();
  watching.catch(() => {});
  return async () => {
    stop.abort();
    await watching;
    return longest_ms + EVERY_MS;
  };
}
