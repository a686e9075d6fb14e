import pg from 'pg';
import type { BusinessId } from '@carillon/contract';
import { type Database, queryGlobal } from './database.ts';

const CHANNEL = 'carillon';
/** NOTIFY payloads end at 8,000 bytes. */
const BUSINESSES_PER_NOTICE = 400;

/** Tells every process that something moved in a business: a line is free, a run is new, a counter changed. */
export interface Waker {
  wake(business_id: BusinessId): void;
  close(): Promise<void>;
}

/** How many notices could not be sent, since the process began; polling does their work. */
export const lostWakes = { count: 0 };

/**
 * NOTIFY serialises the commits of those who use it, so it never stands in a hot transaction: what has gathered in
 * `gather_ms` goes out as one notice in a transaction of its own. A lost notice costs one polling interval.
 */
export function createWaker(db: Database, gather_ms: number, onError: (error: unknown) => void): Waker {
  const gathered = new Set<BusinessId>();
  let timer: NodeJS.Timeout | undefined;
  let sending = Promise.resolve();
  const send = () => {
    timer = undefined;
    const ids = [...gathered];
    gathered.clear();
    for (let from = 0; from < ids.length; from += BUSINESSES_PER_NOTICE) {
      const payload = JSON.stringify(ids.slice(from, from + BUSINESSES_PER_NOTICE));
      sending = sending
        .then(() => queryGlobal(db, 'SELECT pg_notify($1, $2)', [CHANNEL, payload]))
        .then(
          () => {},
          (error: unknown) => {
            lostWakes.count++;
            onError(error);
          },
        );
    }
  };
  return {
    wake(business_id) {
      gathered.add(business_id);
      timer ??= setTimeout(send, gather_ms);
    },
    async close() {
      clearTimeout(timer);
      if (gathered.size > 0) send();
      await sending;
    },
  };
}

const LISTEN_AGAIN_MS = 1_000;
const CONNECT_TIMEOUT_MS = 5_000;

/**
 * Listens for wakes on a connection of its own, and comes back by itself when that breaks. Where LISTEN can't be had
 * (a pooler in transaction mode) nothing is ever heard, and polling does the work. Returns a function that ends it.
 */
export function listenForWakes(app_url: string, onWake: (businesses: BusinessId[]) => void): () => void {
  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  const again = (broken: pg.Client) => {
    if (closed || client !== broken) return;
    client = undefined;
    broken.end().catch(() => {});
    timer = setTimeout(connect, LISTEN_AGAIN_MS);
  };
  const connect = () => {
    const mine = new pg.Client({
      connectionString: app_url,
      application_name: 'carillon listen',
      keepAlive: true,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    });
    client = mine;
    mine.on('error', () => again(mine));
    mine.on('end', () => again(mine));
    mine.on('notification', (notice) => onWake(readPayload(notice.payload)));
    mine
      .connect()
      .then(() => mine.query(`LISTEN ${CHANNEL}`))
      .catch(() => again(mine));
  };
  connect();
  return () => {
    closed = true;
    clearTimeout(timer);
    // Not waited for: a database that doesn't answer must not hold up a stop.
    client?.end().catch(() => {});
  };
}

function readPayload(payload: string | undefined): BusinessId[] {
  try {
    const ids: unknown = JSON.parse(payload ?? '');
    return Array.isArray(ids) ? ids.filter((id): id is BusinessId => Number.isSafeInteger(id)) : [];
  } catch {
    return [];
  }
}
