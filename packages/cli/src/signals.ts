import type { Clock } from '@carillon/engine';

/** npm and the terminal each pass one Ctrl-C on: what comes within this time is the same one. */
const SAME_PRESS_MS = 500;

export interface StopRequest {
  /** Aborted by the first SIGINT, SIGTERM or SIGHUP. */
  readonly signal: AbortSignal;
  /** Takes the listeners away; the signals then do what they do by default. */
  dispose(): void;
}

/** SIGHUP: the terminal was closed. Without us the embedded database would go on alone. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** The first signal asks to stop; a second press, for which the first is not quick enough, calls `onForce`. */
export function listenForStop(clock: Clock, onForce: () => void): StopRequest {
  const stop = new AbortController();
  let pressed_ms: number | undefined;
  const onSignal = () => {
    const now_ms = clock.monotonicMs();
    if (pressed_ms === undefined) {
      pressed_ms = now_ms;
      stop.abort();
    } else if (now_ms - pressed_ms > SAME_PRESS_MS) {
      pressed_ms = now_ms;
      onForce();
    }
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  return {
    signal: stop.signal,
    dispose() {
      for (const signal of SIGNALS) process.off(signal, onSignal);
    },
  };
}

/** Resolves when `signal` is aborted. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
