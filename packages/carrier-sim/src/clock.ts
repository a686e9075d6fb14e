/** Microseconds since 1970, UTC. */
export type Clock = () => number;

export const US_PER_MS = 1000;
export const US_PER_S = 1_000_000;

/** The machine's wall clock: the ledger is compared with the database's clock, so a monotonic one would not do. */
export const systemClock: Clock = () => Number(Temporal.Now.instant().epochNanoseconds / 1000n);

/** Milliseconds since some fixed moment, for durations: never set back. */
export const monotonicMs = (): number => performance.now();

export function isoTime(at_us: number): string {
  return new Date(at_us / US_PER_MS).toISOString();
}

/** `Tue, 31 Aug 2010 20:36:28 +0000`, as the carrier's API writes times: whole seconds, rounded down. */
export function rfc2822(at_us: number): string {
  return `${new Date(at_us / US_PER_MS).toUTCString().slice(0, -'GMT'.length)}+0000`;
}
