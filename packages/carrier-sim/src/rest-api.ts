import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { BehaviourStore } from './behaviour.ts';
import { callResource, callUri } from './call-resource.ts';
import type { Calls } from './calls.ts';
import { validateClient } from './client-validation.ts';
import type { Clock } from './clock.ts';
import { field, readCallRequest, readForm, readMethod, readUrl } from './create-request.ts';
import { ApiError } from './errors.ts';
import { chance, drawFor, drawPlan, pickRange } from './fate.ts';
import type { Ledger } from './ledger.ts';
import { listCalls } from './listing.ts';
import type { Scheduler } from './scheduler.ts';
import type { LedgerEntry } from './types.ts';

/** Create requests since the simulator started: how many came (headers read), and what became of them. */
export interface CreateRequests {
  received: number;
  accepted: number;
  /** Answered without a call. */
  refused: number;
  /** Reset by `down`, or dropped because the body never came whole. */
  dropped: number;
}

interface Deps {
  behaviour: BehaviourStore;
  ledger: Ledger;
  calls: Calls;
  scheduler: Scheduler;
  now: Clock;
  seed: number;
  requests: CreateRequests;
}

type Page = { status: number; probability: number } | null;
const ROOT = '/2010-04-01/Accounts/:account/Calls';
const accountOf = (request: FastifyRequest) => (request.params as { account: string }).account;
const isCreate = (request: FastifyRequest) => request.method === 'POST' && request.routeOptions.url === `${ROOT}.json`;

/** The carrier's public API; everything under /2010-04-01. */
export function restApi(app: FastifyInstance, deps: Deps): void {
  const { behaviour, ledger, calls, now, seed, requests } = deps;
  let undirected_draws = 0;
  const tokens = new WeakMap<FastifyRequest, string>();

  // Kept as text: a signed request is checked over its body as it came.
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
    done(null, body),
  );

  app.addHook('onRequest', async (request, reply) => {
    const account = accountOf(request);
    if (isCreate(request)) requests.received += 1;
    if (behaviour.forAccount(account).down) {
      if (isCreate(request)) requests.dropped += 1;
      return reset(request, reply);
    }
    const token = authenticate(request, account, behaviour.authToken(account));
    tokens.set(request, token);
    ledger.rememberToken(account, token);
  });

  app.setErrorHandler((error, request, reply) => {
    if (isCreate(request)) requests[request.raw.complete ? 'refused' : 'dropped'] += 1;
    const known = error instanceof ApiError ? error : asApiError(error);
    return reply.code(known.status).send(known.body());
  });

  /** Reads and updates are not bound to a number's fate: each asks chance anew. */
  function badLuck(page: Page, reply: FastifyReply): boolean {
    undirected_draws += 1;
    if (page === null || chance(seed, 'request', undirected_draws) >= page.probability) return false;
    sendPage(reply, page.status);
    return true;
  }

  function known(request: FastifyRequest): LedgerEntry {
    const { account, sid } = request.params as { account: string; sid: string };
    const entry = ledger.find(account, sid);
    if (entry) return entry;
    const uri = callUri({ account, sid });
    throw new ApiError(20404, { message: `The requested resource ${uri}.json was not found` });
  }

  app.post(`${ROOT}.json`, createHandler({ ...deps, tokenOf: (request) => tokens.get(request) ?? '' }));

  app.get(`${ROOT}.json`, async (request, reply) => {
    const account = accountOf(request);
    const query = request.query as Record<string, unknown>;
    if (badLuck(behaviour.forNumber(account, String(query.To)).read_error, reply)) return reply;
    return listCalls({ ledger, behaviour, now }, account, query, request.url);
  });

  app.get(`${ROOT}/:sid.json`, async (request, reply) => {
    const entry = known(request);
    if (badLuck(behaviour.forNumber(entry.account, entry.to).read_error, reply)) return reply;
    return callResource(entry);
  });

  app.post(`${ROOT}/:sid.json`, async (request, reply) => {
    const entry = known(request);
    if (badLuck(behaviour.forNumber(entry.account, entry.to).update_error, reply)) return reply;
    update(calls, entry, request.body);
    return callResource(entry);
  });

  app.get(`${ROOT}/:sid/Events.json`, async (request) => {
    const entry = known(request);
    const events = calls.events(entry.sid);
    const uri = `${callUri(entry)}/Events.json?PageSize=50&Page=0`;
    const page = { page: 0, page_size: 50, start: 0, end: Math.max(0, events.length - 1) };
    return { events, ...page, uri, first_page_uri: uri, next_page_uri: null, previous_page_uri: null };
  });
}

function authenticate(request: FastifyRequest, account: string, required: string | undefined): string {
  const [scheme, credentials = ''] = (request.headers.authorization ?? '').split(' ');
  const [, user, token] = /^([^:]*):(.*)$/s.exec(Buffer.from(credentials, 'base64').toString('utf8')) ?? [];
  if (scheme?.toLowerCase() !== 'basic' || user !== account || !token || (required ?? token) !== token) {
    throw new ApiError(20003, {
      message: 'Authenticate: the user must be the AccountSid of the URL, the password its auth token',
    });
  }
  return token;
}

/** The framework's own complaints (a body that is too large or cut short, a wrong content type), in the carrier's form. */
function asApiError(error: unknown): ApiError {
  const { statusCode = 500, message } = error as { statusCode?: number; message: string };
  return statusCode < 500 ? new ApiError(20001, { status: statusCode, message }) : new ApiError(20500, { message });
}

/** Ends the connection with a TCP reset: nothing is answered. */
function reset(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  reply.hijack();
  request.raw.socket.resetAndDestroy();
  return reply;
}

function sendPage(reply: FastifyReply, status: number): FastifyReply {
  if (status >= 300 && status < 400) reply.header('location', reply.request.url);
  const text = `<html><body><h1>${status}</h1><p>This page comes from a gateway in front of the carrier.</p></body></html>`;
  return reply.code(status).type('text/html').send(text);
}

function createHandler(deps: Deps & { tokenOf(request: FastifyRequest): string }) {
  const { behaviour, ledger, calls, scheduler, now, seed, requests, tokenOf } = deps;
  /** How many creates each account has asked for each number: the fate of the next one depends on it. */
  const asked = new Map<string, number>();

  function nextNth(account: string, to: string): number {
    const key = `${account} ${to}`;
    const nth = (asked.get(key) ?? ledger.ofAccount(account, to).at(-1)?.nth ?? 0) + 1;
    asked.set(key, nth);
    return nth;
  }

  return async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    const account = accountOf(request);
    const call = readCallRequest(readForm(request.body));
    const settings = behaviour.forNumber(account, call.to);
    if (settings.down) {
      requests.dropped += 1;
      return reset(request, reply);
    }
    const nth = nextNth(account, call.to);
    const draw = drawFor(seed, call.to, nth);
    const { refuse, http_error } = settings;
    if (refuse !== null && draw('refuse') < refuse.probability) throw new ApiError(refuse.code, refuse);
    const page = http_error !== null && draw('http error') < http_error.probability ? http_error : null;
    if (page !== null && !page.create) {
      requests.refused += 1;
      return sendPage(reply, page.status);
    }

    // From here on the call comes into being, whether the customer still listens or not.
    const record = recordResponse(ledger, reply, page ? 'error_page' : 'sent');
    const effect_ms = pickRange(settings.effect_delay_ms, draw('effect delay'));
    if (effect_ms > 0) await scheduler.sleep(effect_ms);
    const public_key_pem = behaviour.validationKeyPem(account);
    if (public_key_pem !== undefined) {
      const token = request.headers['twilio-client-validation'];
      const { method, url, headers } = request;
      const body = String(request.body ?? '');
      validateClient(String(token ?? ''), { method, url, headers, body }, { account, public_key_pem, now_us: now() });
    }
    const plan = drawPlan(settings, draw);
    const entry = calls.place({ account, request: call, plan, nth, signing_key: tokenOf(request) });
    requests.accepted += 1;
    const resource = callResource(entry);
    record(entry);

    if (draw('lose response') < settings.lose_response) return reset(request, reply);
    const delay_ms = pickRange(settings.response_delay_ms, draw('response delay'));
    if (delay_ms > 0) await scheduler.sleep(delay_ms);
    if (page !== null) return sendPage(reply, page.status);
    return reply.code(201).send(resource);
  };
}

/** Watches the response from now on; what became of it is written down for the call that is named, now or later. */
function recordResponse(
  ledger: Ledger,
  reply: FastifyReply,
  whole: 'sent' | 'error_page',
): (entry: LedgerEntry) => void {
  const close = new Promise<void>((resolve) => void reply.raw.once('close', resolve));
  return (entry) => void close.then(() => ledger.response(entry, reply.raw.writableFinished ? whole : 'lost'));
}

/** Ends a call or gives it other instructions. Throws ApiError 21220 where its state does not allow that. */
function update(calls: Calls, entry: LedgerEntry, body: unknown): void {
  const form = readForm(body);
  const status = field(form, 'Status');
  const url = readUrl(field(form, 'Url'), 21205);
  const twiml = field(form, 'Twiml');
  let done: boolean;
  if (status === 'canceled') done = calls.cancel(entry);
  else if (status === 'completed') done = calls.hangUp(entry);
  else if (status !== undefined) throw new ApiError(20001, { message: 'Status must be canceled or completed' });
  else if (url !== null) done = calls.redirect(entry, { url, method: readMethod(form, 'Method') });
  else if (twiml) done = calls.redirect(entry, { twiml });
  else throw new ApiError(20001, { message: 'Status, Url or Twiml is required' });
  if (!done) throw new ApiError(21220, { message: `Call is not in-progress. Its state is ${entry.status}.` });
}
