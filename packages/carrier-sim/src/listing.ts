import type { BehaviourStore } from './behaviour.ts';
import { apiStatus, callResource } from './call-resource.ts';
import type { Clock } from './clock.ts';
import { US_PER_MS } from './clock.ts';
import { normalNumber } from './create-request.ts';
import { ApiError } from './errors.ts';
import type { Ledger } from './ledger.ts';
import { limits } from './limits.ts';
import type { LedgerEntry } from './types.ts';

/** Anything else would be filtered by the carrier and not by us: better no answer than a wrong one. */
const FILTERS: ReadonlySet<string> = new Set(['To', 'From', 'Status', 'PageSize', 'Page', 'PageToken']);

interface Deps {
  ledger: Ledger;
  behaviour: BehaviourStore;
  now: Clock;
}

/**
 * `GET Calls.json`: newest first, in pages. A page's token names the last call of the one before, so that calls
 * created meanwhile neither shift nor repeat anything. Calls younger than the listing lag are not there yet.
 */
export function listCalls(deps: Deps, account: string, given: Record<string, unknown>, url: string): object {
  const query: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    query[name] = String(value);
    if (!FILTERS.has(name)) throw new ApiError(20001, { message: `The simulated carrier does not filter by ${name}` });
  }
  const page_size = whole(query, 'PageSize', limits.page_size_default);
  if (page_size < 1 || page_size > limits.page_size) {
    throw new ApiError(20001, { message: `PageSize must be 1 to ${limits.page_size}` });
  }
  const page = whole(query, 'Page', 0);
  if (page > 0 && !query.PageToken)
    throw new ApiError(20001, { message: 'Page needs the PageToken of the page before' });
  const found = select(deps, account, query, page_size + 1);
  const shown = found.slice(0, page_size);
  const path = url.split('?')[0] ?? url;
  const pageUri = (number: number, token?: string) => {
    const kept = Object.entries(query).filter(([name]) => !name.startsWith('Page'));
    const paging = [
      ['PageSize', String(page_size)],
      ['Page', String(number)],
      ...(token ? [['PageToken', token]] : []),
    ];
    return `${path}?${new URLSearchParams([...kept, ...paging])}`;
  };
  const last = shown.at(-1);
  return {
    calls: shown.map(callResource),
    page,
    page_size,
    start: page * page_size,
    end: page * page_size + Math.max(0, shown.length - 1),
    uri: url,
    first_page_uri: pageUri(0),
    next_page_uri: last && found.length > page_size ? pageUri(page + 1, `PA${last.sid}`) : null,
    previous_page_uri: null,
  };
}

/** The newest matching calls before the page's token, at most `count` of them. */
function select(deps: Deps, account: string, query: Record<string, string>, count: number): LedgerEntry[] {
  const { ledger, behaviour, now } = deps;
  const to = query.To === undefined ? undefined : normalNumber(query.To);
  const from = query.From === undefined ? undefined : normalNumber(query.From);
  const calls = ledger.ofAccount(account, to);
  const now_us = now();
  const found: LedgerEntry[] = [];
  for (let i = startOf(ledger, account, calls, query.PageToken) - 1; i >= 0 && found.length < count; i--) {
    const entry = calls[i];
    if (!entry) break;
    if (from !== undefined && entry.from !== from) continue;
    if (query.Status !== undefined && apiStatus(entry.status) !== query.Status) continue;
    const lag_us = behaviour.forNumber(account, entry.to).listing_lag_ms * US_PER_MS;
    if (entry.created_us + lag_us <= now_us) found.push(entry);
  }
  return found;
}

/** Where a page starts, counted from the oldest call: just before the call that the token names. */
function startOf(ledger: Ledger, account: string, calls: readonly LedgerEntry[], token: string | undefined): number {
  if (!token) return calls.length;
  const last = ledger.find(account, token.replace(/^PA/, ''));
  if (!last) throw new ApiError(20001, { message: 'PageToken is not one that the carrier gave' });
  let low = 0;
  let high = calls.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((calls[middle]?.index ?? 0) < last.index) low = middle + 1;
    else high = middle;
  }
  return low;
}

function whole(query: Record<string, string>, name: string, otherwise: number): number {
  const text = query[name];
  if (text === undefined) return otherwise;
  if (!/^\d{1,9}$/.test(text)) throw new ApiError(20001, { message: `${name} must be a whole number` });
  return Number(text);
}
