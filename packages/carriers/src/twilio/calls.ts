import type {
  CarrierCall,
  CarrierCredentials,
  FetchResult,
  FindResult,
  HangUpResult,
  ListedCall,
  ListResult,
} from '@carillon/contract';
import { z } from 'zod';
import { CALL_RESPONSE_BYTES, LISTING_PAGE_CALLS, LISTING_PAGES, LISTING_RESPONSE_BYTES } from '../limits.ts';
import { callResource, causeOf, getRequest, isSuccess, parseJson, postRequest, readError, resourceUrl } from './api.ts';
import { CallId, parseDate_s, readCall } from './call.ts';
import { type Exchange, exchange, type Outgoing } from './exchange.ts';
import { asE164, compareNumbers } from './numbers.ts';
import { NOT_FOUND, REFUSALS } from './refusals.ts';

/** Asking for calls that exist, and ending them. All of it may be repeated; an error never means "there is none". */

export interface AskLimits {
  connect_timeout_ms: number;
  request_timeout_ms: number;
}

export interface Wanted {
  to: string;
  from: string;
  created_from_ms: number;
  created_to_ms: number;
}

const Page = z.object({ calls: z.array(z.unknown()), next_page_uri: z.string().nullish() });

/**
 * Every page of the calls between two numbers, filtered by when they were created. Not by when they started, which a
 * queued call has not. The span is widened to whole seconds, the carrier's resolution.
 */
export async function find(credentials: CarrierCredentials, wanted: Wanted, limits: AskLimits): Promise<FindResult> {
  const first = resourceUrl(credentials, 'Calls.json');
  if (first === null) return { kind: 'error', cause: 'base_url_invalid' };
  first.search = new URLSearchParams({
    To: wanted.to,
    From: wanted.from,
    PageSize: String(LISTING_PAGE_CALLS),
  }).toString();

  const calls: CarrierCall[] = [];
  let url = first;
  for (let page = 0; page < LISTING_PAGES; page += 1) {
    const result = await ask(getRequest(credentials, url), limits, LISTING_RESPONSE_BYTES);
    if (result.kind !== 'answered' || !isSuccess(result.status)) return { kind: 'error', cause: causeOf(result) };
    const read = Page.safeParse(parseJson(result.text));
    if (!read.success) return { kind: 'error', cause: 'listing_unreadable' };
    for (const item of read.data.calls) {
      const call = pick(item, wanted);
      if (call === 'unreadable') return { kind: 'error', cause: 'listed_call_unreadable' };
      if (call !== null) calls.push(call);
    }
    const next = read.data.next_page_uri;
    if (!next) return { kind: 'listed', calls };
    const next_url = nextPageUrl(next, first, credentials);
    if (next_url === null) return { kind: 'error', cause: 'listing_leads_elsewhere' };
    url = next_url;
  }
  return { kind: 'error', cause: 'listing_too_long' };
}

const Listed = z.object({ to: z.string().nullish(), from: z.string().nullish(), date_created: z.string().nullish() });

/** The listed call when it is one of the wanted, null when it is certainly none. */
function pick(item: unknown, wanted: Wanted): CarrierCall | null | 'unreadable' {
  const listed = Listed.safeParse(item);
  if (!listed.success) return 'unreadable';
  const created_at_s = parseDate_s(listed.data.date_created ?? '');
  if (created_at_s !== null) {
    const before = created_at_s < Math.floor(wanted.created_from_ms / 1000);
    if (before || created_at_s > Math.ceil(wanted.created_to_ms / 1000)) return null;
  }
  const to = compareNumbers(listed.data.to ?? '', wanted.to);
  const from = compareNumbers(listed.data.from ?? '', wanted.from);
  if (to === 'other' || from === 'other') return null;
  if (to === 'unreadable' || from === 'unreadable') return 'unreadable';
  return readCall(item) ?? 'unreadable';
}

const ListedWithNumbers = Listed.extend({ sid: CallId });

/**
 * One page of an account's calls, newest first; the list ends with the first page that has only calls from before the
 * span. Calls to what is no number (sip:, client:) are left out; one that can't be read is an error, never absence.
 */
export async function list(
  credentials: CarrierCredentials,
  wanted: { created_from_ms: number; created_to_ms: number; page: string | null },
  limits: AskLimits,
): Promise<ListResult> {
  const first = resourceUrl(credentials, 'Calls.json');
  if (first === null) return { kind: 'error', cause: 'base_url_invalid' };
  const url = wanted.page === null ? first : nextPageUrl(wanted.page, first, credentials);
  if (url === null) return { kind: 'error', cause: 'listing_leads_elsewhere' };
  if (wanted.page === null) url.search = new URLSearchParams({ PageSize: String(LISTING_PAGE_CALLS) }).toString();
  const result = await ask(getRequest(credentials, url), limits, LISTING_RESPONSE_BYTES);
  if (result.kind !== 'answered' || !isSuccess(result.status)) return { kind: 'error', cause: causeOf(result) };
  const read = Page.safeParse(parseJson(result.text));
  if (!read.success) return { kind: 'error', cause: 'listing_unreadable' };
  const calls: ListedCall[] = [];
  let all_before = read.data.calls.length > 0;
  for (const item of read.data.calls) {
    const listed = ListedWithNumbers.safeParse(item);
    if (!listed.success) return { kind: 'error', cause: 'listed_call_unreadable' };
    const created_at_s = parseDate_s(listed.data.date_created ?? '');
    // One whose time can't be read may be of the span.
    const before = created_at_s !== null && created_at_s < Math.floor(wanted.created_from_ms / 1000);
    if (!before) all_before = false;
    const to = asE164(listed.data.to ?? '');
    const after = created_at_s !== null && created_at_s > Math.ceil(wanted.created_to_ms / 1000);
    if (before || after || to === null) continue;
    if (to === 'unreadable') return { kind: 'error', cause: 'listed_number_unreadable' };
    calls.push({ call_id: listed.data.sid, to });
  }
  return { kind: 'page', calls, next: all_before ? null : (read.data.next_page_uri ?? null) };
}

/** The next page, if it is one of the same listing: the credentials go nowhere else. */
function nextPageUrl(next: string, first: URL, credentials: CarrierCredentials): URL | null {
  const url = URL.parse(next, first);
  if (url === null || url.origin !== first.origin) return null;
  const listing = first.pathname.replace(/\.json$/, '');
  // Some carriers leave out the path before the API's own.
  const prefix = new URL(credentials.base_url).pathname.replace(/\/+$/, '');
  if (prefix !== '' && !url.pathname.startsWith(`${prefix}/`)) url.pathname = prefix + url.pathname;
  url.hash = '';
  return url.pathname === first.pathname || url.pathname === listing ? url : null;
}

export async function fetchCall(
  credentials: CarrierCredentials,
  call_id: string,
  limits: AskLimits,
): Promise<FetchResult> {
  const url = resourceUrl(credentials, callResource(call_id));
  if (url === null) return { kind: 'error', cause: 'base_url_invalid' };
  const result = await ask(getRequest(credentials, url), limits, CALL_RESPONSE_BYTES);
  const call = answeredCall(result, call_id);
  if (call !== null) return { kind: 'call', call };
  // Only the carrier's own "not found" is one: a proxy's 404 knows nothing of calls.
  if (errorCode(result) === NOT_FOUND) return { kind: 'absent' };
  return { kind: 'error', cause: unreadableOr(result) };
}

/**
 * Cancels first: that ends a call that nobody answered as `canceled`, where `completed` would make it look answered.
 * A call that is live by now is not touched by it, so `completed` follows. A call that takes neither is looked at.
 */
export async function hangUp(
  credentials: CarrierCredentials,
  call_id: string,
  limits: AskLimits,
): Promise<HangUpResult> {
  const url = resourceUrl(credentials, callResource(call_id));
  if (url === null) return { kind: 'error', cause: 'base_url_invalid' };
  let refusal = '';
  for (const status of ['canceled', 'completed']) {
    const order = postRequest(credentials, url, new URLSearchParams({ Status: status }));
    const result = await ask(order, limits, CALL_RESPONSE_BYTES);
    const call = answeredCall(result, call_id);
    if (call?.phase === 'ended') return { kind: 'over' };
    // A live call shown in answer to `canceled` was left alone; in any other case the order is taken.
    if (call !== null && (call.phase !== 'in_call' || status === 'completed')) return { kind: 'asked' };
    refusal = unreadableOr(result);
    if (call === null && !refusesOrder(result)) return { kind: 'error', cause: refusal };
  }
  const seen = await fetchCall(credentials, call_id, limits);
  return seen.kind === 'call' && seen.call.phase === 'ended' ? { kind: 'over' } : { kind: 'error', cause: refusal };
}

/**
 * The order does not fit what the call is doing (21220 at Twilio, others elsewhere): another one may. Not so when the
 * account, its rate or the call's id is refused.
 */
function refusesOrder(result: Exchange): boolean {
  const code = errorCode(result);
  return code !== null && !REFUSALS.has(code);
}

function ask(outgoing: Outgoing, limits: AskLimits, response_bytes: number): Promise<Exchange> {
  const { connect_timeout_ms, request_timeout_ms } = limits;
  return exchange(outgoing, { connect_timeout_ms, response_timeout_ms: request_timeout_ms, response_bytes });
}

function answeredCall(result: Exchange, call_id: string): CarrierCall | null {
  if (result.kind !== 'answered' || !isSuccess(result.status)) return null;
  const call = readCall(parseJson(result.text));
  return call?.call_id === call_id ? call : null;
}

function errorCode(result: Exchange): number | null {
  return result.kind === 'answered' ? (readError(result.status, result.text)?.code ?? null) : null;
}

function unreadableOr(result: Exchange): string {
  return result.kind === 'answered' && isSuccess(result.status) ? 'call_unreadable' : causeOf(result);
}
