import { US_PER_MS, US_PER_S } from './clock.ts';
import type { Clock } from './clock.ts';
import type { Scheduler } from './scheduler.ts';

/** Dials an account's calls one after the other, no faster than its calls per second. */
export interface DialQueue {
  /** `dial` says whether it dialled: a call that was cancelled while it waited takes no slot. */
  add(account: string, dial: () => boolean): void;
  /** The rates may have changed. */
  refresh(): void;
}

interface Lane {
  waiting: (() => boolean)[];
  first: number;
  next_dial_us: number;
  cancelTimer: (() => void) | null;
}

export function createDialQueue(
  scheduler: Scheduler,
  now: Clock,
  callsPerSecond: (account: string) => number | null,
): DialQueue {
  const lanes = new Map<string, Lane>();

  function pump(account: string, lane: Lane): void {
    lane.cancelTimer?.();
    lane.cancelTimer = null;
    while (lane.first < lane.waiting.length) {
      const rate = callsPerSecond(account);
      const at_us = now();
      if (rate !== null && lane.next_dial_us > at_us) {
        // No dial can be due later than one interval from now, unless the rate or the clock was changed.
        lane.next_dial_us = Math.min(lane.next_dial_us, at_us + US_PER_S / rate);
        lane.cancelTimer = scheduler.after((lane.next_dial_us - at_us) / US_PER_MS, () => pump(account, lane));
        return;
      }
      const dialled = lane.waiting[lane.first]?.() ?? false;
      lane.first += 1;
      if (dialled && rate !== null) lane.next_dial_us = at_us + US_PER_S / rate;
    }
    lane.waiting = [];
    lane.first = 0;
  }

  return {
    add(account, dial) {
      let lane = lanes.get(account);
      if (!lane) lanes.set(account, (lane = { waiting: [], first: 0, next_dial_us: 0, cancelTimer: null }));
      lane.waiting.push(dial);
      if (lane.cancelTimer === null) pump(account, lane);
    },
    refresh() {
      for (const [account, lane] of lanes) pump(account, lane);
    },
  };
}
