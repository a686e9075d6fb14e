import { createHash } from 'node:crypto';
import { CarillonError, isFinalRun, type Run } from '@carillon/contract';
import type { Clock } from '@carillon/engine';
import { isDatabaseOutOfReach } from './errors.ts';
import type { ApiLimits } from './limits.ts';

/**
 * A run as server-sent events: its JSON under the name `run`, at once and whenever it has changed. Readings are paced,
 * so a run that changes a thousand times a second is told a few times a second, always as it is by then.
 *
 * The event's id names the very state that was sent: a client that comes again with it as Last-Event-ID hears nothing
 * twice. The stream ends once a final state was sent, and after `stream_max_ms`, when the client should come again.
 */
export async function* runEvents(options: {
  first: Run;
  read(): Promise<Run>;
  bell: Bell;
  last_event_id: string | undefined;
  limits: ApiLimits;
  clock: Clock;
}): AsyncGenerator<string, void, void> {
  const { bell, limits, clock } = options;
  const until_ms = clock.monotonicMs() + limits.stream_max_ms;
  let run: Run | null = options.first;
  let sent = options.last_event_id;
  let spoke_ms = clock.monotonicMs();
  yield `retry: ${limits.stream_poll_ms}\n\n`;
  while (!bell.closed) {
    const id = run && runEventId(run);
    if (run && id !== sent) {
      yield `id: ${id}\nevent: run\ndata: ${JSON.stringify(run)}\n\n`;
      sent = id ?? sent;
      spoke_ms = clock.monotonicMs();
    } else if (clock.monotonicMs() - spoke_ms >= limits.stream_heartbeat_ms) {
      yield ': still here\n\n';
      spoke_ms = clock.monotonicMs();
    }
    if ((run && isFinalRun(run.status)) || clock.monotonicMs() >= until_ms) return;
    await bell.wait(limits);
    // A database that is away for a while ends no stream: the next reading tells what was missed.
    run = await options.read().catch((error: unknown) => {
      if (isDatabaseOutOfReach(error)) return null;
      throw error;
    });
  }
}

/** Begins with the time of the last change, so ids rise; ends with a digest, so equal ids are equal states. */
export function runEventId(run: Run): string {
  const digest = createHash('sha256').update(JSON.stringify(run)).digest('hex');
  return `${Date.parse(run.updated_at)}-${digest.slice(0, 16)}`;
}

/** What a stream sleeps on: rung when something moved, closed when nobody listens any more. */
export interface Bell {
  readonly closed: boolean;
  ring(): void;
  close(): void;
  /** Resolves when rung since the last wait, at the latest after `stream_poll_ms`, at the earliest after `stream_pace_ms`. */
  wait(limits: ApiLimits): Promise<void>;
}

export function createBell(): Bell {
  let rung = false;
  let closed = false;
  let notice: (() => void) | undefined;
  /** Sleeps; a ring ends it where `wakeable`, a close always. */
  const sleep = async (ms: number, wakeable: boolean) => {
    if (closed || (wakeable && rung)) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
      notice = () => void (closed || wakeable ? resolve() : undefined);
    });
    clearTimeout(timer);
    notice = undefined;
  };
  return {
    get closed() {
      return closed;
    },
    ring() {
      rung = true;
      notice?.();
    },
    close() {
      closed = true;
      notice?.();
    },
    async wait(limits) {
      await sleep(limits.stream_pace_ms, false);
      await sleep(limits.stream_poll_ms - limits.stream_pace_ms, true);
      rung = false;
    },
  };
}

/** Counts the open streams, of each business and of all. */
export interface StreamSeats {
  /** Takes a seat, or throws `too_many_streams`. Returns a function that gives it back, once. */
  take(business_id: number): () => void;
}

export function createStreamSeats(limits: ApiLimits, onChange: (open: number) => void): StreamSeats {
  const seats = new Map<number, number>();
  let open = 0;
  const count = (business_id: number, by: 1 | -1) => {
    open += by;
    const mine = (seats.get(business_id) ?? 0) + by;
    if (mine > 0) seats.set(business_id, mine);
    else seats.delete(business_id);
    onChange(open);
  };
  return {
    take(business_id) {
      const mine = seats.get(business_id) ?? 0;
      if (mine >= limits.streams_per_business)
        throw new CarillonError('too_many_streams', { limit: limits.streams_per_business });
      if (open >= limits.streams) throw new CarillonError('too_many_streams', { limit: limits.streams });
      count(business_id, 1);
      let taken = true;
      return () => {
        if (taken) count(business_id, -1);
        taken = false;
      };
    },
  };
}
