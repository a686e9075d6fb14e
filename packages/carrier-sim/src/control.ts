import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { BehaviourError } from './behaviour.ts';
import type { BehaviourStore } from './behaviour.ts';
import type { Calls } from './calls.ts';
import type { Clock } from './clock.ts';
import type { Ledger } from './ledger.ts';
import { limits } from './limits.ts';
import { page } from './page.ts';
import type { CreateRequests } from './rest-api.ts';
import type { LedgerEntry } from './types.ts';

interface Deps {
  behaviour: BehaviourStore;
  ledger: Ledger;
  calls: Calls;
  now: Clock;
  seed: number;
  requests: CreateRequests;
}

/**
 * What no real carrier has: its ledger laid open, and its behaviour in the hands of whoever asks. Not touched by
 * `down`. There is no way to reset or shorten the ledger.
 */
export function controlApi(app: FastifyInstance, { behaviour, ledger, calls, now, seed, requests }: Deps): void {
  const totals = () => ({ seed, ...ledger.totals(), create_requests: requests });

  app.setErrorHandler((error, _request, reply) => {
    if (error instanceof BehaviourError) {
      return reply.code(422).send({ error: error.message, code: 'invalid_behaviour', details: error.issues });
    }
    const { statusCode = 500, message, code } = error as { statusCode?: number; message: string; code?: string };
    return reply.code(statusCode).send({ error: message, code: code ?? 'error' });
  });

  app.get('/', (_request, reply) => reply.type('text/html; charset=utf-8').send(page));
  app.get('/_sim/totals', async () => totals());
  app.get('/_sim/live', async () => {
    const live = calls.live();
    return { now_us: now(), totals: totals(), calls: live.slice(-limits.live_shown_calls).toReversed() };
  });
  app.get('/_sim/behaviour', async () => behaviour.current);
  app.put('/_sim/behaviour', { bodyLimit: limits.behaviour_body_bytes }, (request, reply) => {
    behaviour.replace(request.body);
    return reply.send(behaviour.current);
  });

  app.get('/_sim/ledger', (request, reply) => {
    const { since, limit } = request.query as { since?: string; limit?: string };
    const first = since === undefined ? 0 : firstAfter(ledger.entries, since);
    const count = limit === undefined ? Number.POSITIVE_INFINITY : Number(limit);
    if (first === null || !(count >= 1)) {
      const error = 'since must be an index (from 0) or the sid of a known call, limit a number above 0';
      return reply.code(422).send({ error, code: 'invalid_query' });
    }
    const end = Math.min(ledger.entries.length, first + count);
    return reply.type('application/x-ndjson').send(Readable.from(lines(ledger.entries, first, end)));
  });
}

/** `since` an index: from that one on; a sid: from the call after that one on. Null where there is no such call. */
function firstAfter(entries: readonly LedgerEntry[], since: string): number | null {
  if (/^\d{1,15}$/.test(since)) return Number(since);
  const known = entries.find(({ sid }) => sid === since);
  return known ? known.index + 1 : null;
}

/** In pieces, with room for other requests in between: a ledger of a million calls must not stop the carrier. */
async function* lines(entries: readonly LedgerEntry[], first: number, end: number): AsyncGenerator<string> {
  for (let from = first; from < end; from += limits.ledger_chunk_calls) {
    const chunk = entries.slice(from, Math.min(end, from + limits.ledger_chunk_calls));
    yield chunk.map((entry) => `${JSON.stringify(entry)}\n`).join('');
    await setImmediate();
  }
}
