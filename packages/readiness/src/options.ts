import type { CarrierDrivers } from '@carillon/contract';
import type { Clock, Database, Limits } from '@carillon/engine';
import type { Patience } from './wait.ts';

export interface ReadinessOptions {
  db: Database;
  /** The application login's URL, for the auditor, which has a connection of its own. */
  app_url: string;
  drivers: CarrierDrivers;
  /** 32 bytes; opens the carrier accounts, and seals the canaries' own. */
  secret: Buffer;
  limits: Limits;
  clock: Clock;
  /** The whole check takes no longer; what is not proven by then is not ok. */
  timeout_ms: number;
  /** Asks each real account's carrier for its calls of the last minute: a question that calls nobody. */
  ask_carrier: boolean;
  /** Ends the check early; the canaries are removed all the same. */
  stop?: AbortSignal;
}

export const DEFAULT_TIMEOUT_MS = 60_000;

/** What is looked at of a large installation; the evidence says what was left out. */
export const BOUNDS = {
  runs_max: 200,
  jobs_max: 1_000_000,
  businesses_max: 1_000,
  accounts_max: 100,
} as const;

/** The options with a time at which patience ends. */
export interface Check extends ReadinessOptions {
  until_monotonic_ms: number;
}

/** Waits at most `ms`, and never beyond the whole check's time. */
export function patience({ clock, until_monotonic_ms, stop }: Check, ms: number): Patience {
  return { clock, stop, until_monotonic_ms: Math.min(until_monotonic_ms, clock.monotonicMs() + ms) };
}

/** Whether the check's time is over. */
export function isOver({ clock, until_monotonic_ms, stop }: Check): boolean {
  return stop?.aborted === true || clock.monotonicMs() >= until_monotonic_ms;
}
