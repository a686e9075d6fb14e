import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { BusinessId } from '@carillon/contract';
import type { Clock } from '@carillon/engine';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ApiContext } from './context.ts';
import { isDatabaseOutOfReach } from './database-reach.ts';
import type { ApiLimits } from './limits.ts';
import { logBroken } from './logging.ts';

/** Something whose changes are told: a run, an import. */
export interface Told<T> {
  /** Of its events. */
  name: string;
  first: T;
  read(): Promise<T>;
  /** When it was changed last. */
  changedAt(state: T): string;
  isFinal(state: T): boolean;
}

/**
 * A thing as server-sent events: its JSON under its name, at once and whenever it has changed. Readings are paced,
 * so one that changes a thousand times a second is told a few times a second, always as it is by then.
 *
 * The event's id names the very state that was sent: a client that comes again with it as Last-Event-ID hears nothing
 * twice. The stream ends once a final state was sent, and after `stream_max_ms`, when the client should come again.
 */
async function* stateEvents<T>(options: {
  told: Told<T>;
  bell: Bell;
  last_event_id: string | undefined;
  limits: ApiLimits;
  clock: Clock;
}): AsyncGenerator<string, void, void> {
  const { told, bell, limits, clock } = options;
  const until_ms = clock.monotonicMs() + limits.stream_max_ms;
  let state: T | null = told.first;
  let sent = options.last_event_id;
  let spoke_ms = clock.monotonicMs();
  yield `retry: ${limits.stream_poll_ms}\n\n`;
  while (!bell.closed) {
    const id = state && eventId(told, state);
    if (state && id !== sent) {
      yield `id: ${id}\nevent: ${told.name}\ndata: ${JSON.stringify(state)}\n\n`;
      sent = id ?? sent;
      spoke_ms = clock.monotonicMs();
    } else if (clock.monotonicMs() - spoke_ms >= limits.stream_heartbeat_ms) {
      yield ': still here\n\n';
      spoke_ms = clock.monotonicMs();
    }
    if ((state && told.isFinal(state)) || clock.monotonicMs() >= until_ms) return;
    await bell.wait(limits);
    // A database that is away for a while ends no stream: the next reading tells what was missed.
    state = await told.read().catch((error: unknown) => {
      if (isDatabaseOutOfReach(error)) return null;
      throw error;
    });
  }
}

/** Begins with the time of the last change, so ids rise; ends with a digest, so equal ids are equal states. */
function eventId<T>(told: Told<T>, state: T): string {
  const digest = createHash('sha256').update(JSON.stringify(state)).digest('hex');
  return `${Date.parse(told.changedAt(state))}-${digest.slice(0, 16)}`;
}

/**
 * Answers a request with a thing's events; with 204 when its last state is the one that `last-event-id` names. Throws
 * `too_many_streams`.
 */
export function sendEvents<T>(
  request: FastifyRequest,
  reply: FastifyReply,
  context: ApiContext,
  business_id: BusinessId,
  told: Told<T>,
): FastifyReply {
  const { api_limits, clock, wakes, closing, seats } = context;
  const last_event_id = request.headers['last-event-id']?.toString();
  if (told.isFinal(told.first) && last_event_id === eventId(told, told.first)) return reply.code(204).send();
  const leaveSeat = seats.take(business_id);
  const bell = createBell();
  const unwatch = wakes.watch(business_id, bell.ring);
  const events = stateEvents({ told, bell, last_event_id, limits: api_limits, clock });
  // The generator is asked for an event only when the one before has left: a slow client misses states in between,
  // and costs no memory.
  const stream = Readable.from(events, { objectMode: false, highWaterMark: 1 });
  closing.addEventListener('abort', bell.close, { once: true });
  if (closing.aborted || reply.raw.destroyed) bell.close();
  // A client that leaves must wake the generator: asleep, it can't be ended, and would keep its seat.
  reply.raw.once('close', bell.close);
  stream.once('close', () => {
    closing.removeEventListener('abort', bell.close);
    bell.close();
    unwatch();
    leaveSeat();
  });
  return reply
    .type('text/event-stream; charset=utf-8')
    .header('cache-control', 'no-store')
    .header('x-accel-buffering', 'no')
    .send(logBroken(request, stream));
}

/** What a stream sleeps on: rung when something moved, closed when nobody listens any more. */
interface Bell {
  readonly closed: boolean;
  ring(): void;
  close(): void;
  /** Resolves when rung since the last wait, at the latest after `stream_poll_ms`, at the earliest after `stream_pace_ms`. */
  wait(limits: ApiLimits): Promise<void>;
}

function createBell(): Bell {
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
