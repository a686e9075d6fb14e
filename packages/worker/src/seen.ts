/** How long what nobody asks about is remembered at least: of many workers, each has its turn only now and then. */
const KEPT_MS = 3_600_000;

/** When this process first saw something, by its name, on its monotonic clock. */
export interface FirstSeen {
  readonly size: number;
  /** Since when it is known: since now, where it was not. */
  since_ms(name: string, now_ms: number): number;
  forget(name: string): void;
  /** Forgets what nobody has asked about for long: it is settled, perhaps by others. What is asked about bounds the rest. */
  tidy(now_ms: number): void;
}

export function createFirstSeen(): FirstSeen {
  let young = new Map<string, number>();
  let old = new Map<string, number>();
  let begun_ms: number | null = null;
  return {
    get size() {
      return young.size + old.size;
    },
    since_ms(name, now_ms) {
      const first_ms = young.get(name) ?? old.get(name) ?? now_ms;
      old.delete(name);
      young.set(name, first_ms);
      return first_ms;
    },
    forget(name) {
      young.delete(name);
      old.delete(name);
    },
    tidy(now_ms) {
      begun_ms ??= now_ms;
      if (now_ms - begun_ms < KEPT_MS) return;
      [old, young, begun_ms] = [young, new Map(), now_ms];
    },
  };
}
