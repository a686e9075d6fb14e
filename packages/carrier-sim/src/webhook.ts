import { createHmac, randomUUID } from 'node:crypto';
import * as http from 'node:http';
import * as https from 'node:https';
import { monotonicMs } from './clock.ts';
import { limits } from './limits.ts';
import type { Scheduler } from './scheduler.ts';
import type { HttpMethod } from './types.ts';

/** Requests to the customer's own servers: signed, with the time-outs and the retries that its URL asks for. */
export interface Webhooks {
  send(webhook: Webhook): Promise<WebhookResult>;
  close(): void;
}

export interface Webhook {
  /** May carry overrides in its fragment, which is neither sent nor signed: `#rc=5&rp=all&ct=2000&rt=5000&tt=15000`. */
  url: string;
  method: HttpMethod;
  params: Record<string, string>;
  signing_key: string;
}

export type WebhookResult =
  | { kind: 'answered'; status: number; content_type: string; body: string; duration_ms: number }
  /** `connect`: nothing was ever sent. `read`: sent, and no whole answer came. */
  | { kind: 'connect' | 'read'; cause: string; duration_ms: number };

interface Overrides {
  retries: number;
  retry_on: ReadonlySet<string>;
  connect_ms: number;
  read_ms: number;
  total_ms: number;
}

/** The carrier's defaults: one retry, and only where no connection was made. */
export function readOverrides(fragment: string): Overrides {
  const given = new URLSearchParams(fragment.replace(/^#/, ''));
  const number = (name: string, low: number, high: number, otherwise: number) => {
    const text = given.get(name) ?? '';
    return /^\d{1,6}$/.test(text) ? Math.min(high, Math.max(low, Number(text))) : otherwise;
  };
  return {
    retries: number('rc', 0, 5, 1),
    retry_on: new Set((given.get('rp') ?? 'ct').split(',')),
    connect_ms: number('ct', 100, 10_000, 5_000),
    read_ms: number('rt', 100, 15_000, 15_000),
    total_ms: number('tt', 100, 15_000, 15_000),
  };
}

/** Base64 of HMAC-SHA1 over the URL and each posted parameter's name and value, sorted by name. */
export function signature(key: string, url: string, posted: Record<string, string>): string {
  let text = url;
  for (const name of Object.keys(posted).sort()) text += name + posted[name];
  return createHmac('sha1', key).update(text).digest('base64');
}

function asksForRetry(result: WebhookResult, retry_on: ReadonlySet<string>): boolean {
  if (result.kind !== 'answered') return retry_on.has('all') || retry_on.has(result.kind === 'connect' ? 'ct' : 'rt');
  if (result.status < 400) return false;
  return retry_on.has('all') || retry_on.has(result.status < 500 ? '4xx' : '5xx');
}

export function createWebhooks(scheduler: Scheduler): Webhooks {
  let closed = false;
  const options = { keepAlive: true, maxSockets: limits.webhook_connections };
  const agents = { 'http:': new http.Agent(options), 'https:': new https.Agent(options) };

  async function send({ url: text, method, params, signing_key }: Webhook): Promise<WebhookResult> {
    const url = new URL(text);
    const overrides = readOverrides(url.hash);
    url.hash = '';
    if (method === 'GET') for (const [name, value] of Object.entries(params)) url.searchParams.append(name, value);
    const body = method === 'POST' ? new URLSearchParams(params).toString() : '';
    const headers: http.OutgoingHttpHeaders = {
      'user-agent': 'TwilioProxy/1.1',
      accept: '*/*',
      'x-twilio-signature': signature(signing_key, url.href, method === 'POST' ? params : {}),
      // The same for every try, so that the customer can tell a retry from a new request.
      'i-twilio-idempotency-token': randomUUID(),
    };
    if (method === 'POST') {
      headers['content-type'] = 'application/x-www-form-urlencoded; charset=UTF-8';
      headers['content-length'] = Buffer.byteLength(body);
    }
    const started_ms = monotonicMs();
    for (let tries = 0; ; tries++) {
      const left_ms = overrides.total_ms - (monotonicMs() - started_ms);
      const result = await attempt(url, { method, headers, body }, overrides, left_ms, started_ms);
      const spent_ms = result.duration_ms + limits.webhook_retry_pause_ms;
      const again = asksForRetry(result, overrides.retry_on) && tries < overrides.retries;
      if (!again || spent_ms >= overrides.total_ms) return result;
      await scheduler.sleep(limits.webhook_retry_pause_ms);
    }
  }

  function attempt(
    url: URL,
    { method, headers, body }: { method: HttpMethod; headers: http.OutgoingHttpHeaders; body: string },
    overrides: Overrides,
    left_ms: number,
    started_ms: number,
  ): Promise<WebhookResult> {
    const secure = url.protocol === 'https:';
    return new Promise((resolve) => {
      let connected = false;
      let over = false;
      let cancelTimer = () => {};
      const done = (result: Pending) => {
        over = true;
        cancelTimer();
        resolve({ ...result, duration_ms: Math.round(monotonicMs() - started_ms) });
      };
      const fail = (cause: string) => {
        done({ kind: connected ? 'read' : 'connect', cause });
        request.destroy();
      };
      const within = (limit_ms: number, what: string) => {
        cancelTimer();
        cancelTimer = scheduler.after(Math.min(limit_ms, left_ms), () => fail(`no ${what} in time`));
      };
      const request = (secure ? https : http).request(url, {
        method,
        headers,
        agent: secure ? agents['https:'] : agents['http:'],
      });
      within(left_ms, 'free connection');
      request.on('socket', (socket) => {
        const onConnected = () => {
          connected = true;
          within(overrides.read_ms, 'answer');
        };
        if (!socket.connecting) return onConnected();
        within(overrides.connect_ms, 'connection');
        socket.once(secure ? 'secureConnect' : 'connect', onConnected);
      });
      request.on('response', (response) => readBody(response, done, fail));
      request.on('error', (error: NodeJS.ErrnoException) => {
        // Destroyed by our own time-out: that has been told of already.
        if (over) return;
        // A kept connection that the other side was just closing: the request most likely never got there, so this
        // was no try. (If it did, the customer sees it twice, as may happen with a real carrier.)
        if (request.reusedSocket && error.code === 'ECONNRESET' && !closed) {
          cancelTimer();
          resolve(attempt(url, { method, headers, body }, overrides, left_ms, started_ms));
        } else fail(error.code ?? error.message);
      });
      request.end(body);
    });
  }

  return {
    send,
    close() {
      closed = true;
      agents['http:'].destroy();
      agents['https:'].destroy();
    },
  };
}

type Pending =
  | { kind: 'answered'; status: number; content_type: string; body: string }
  | { kind: 'connect' | 'read'; cause: string };

function readBody(
  response: http.IncomingMessage,
  done: (result: Pending) => void,
  fail: (cause: string) => void,
): void {
  const chunks: Buffer[] = [];
  let size_bytes = 0;
  response.on('data', (chunk: Buffer) => {
    size_bytes += chunk.length;
    if (size_bytes > limits.twiml_bytes) fail(`the answer is larger than ${limits.twiml_bytes} bytes`);
    else chunks.push(chunk);
  });
  response.on('error', (error) => fail(error.message));
  response.on('end', () =>
    done({
      kind: 'answered',
      status: response.statusCode ?? 0,
      content_type: response.headers['content-type'] ?? '',
      body: Buffer.concat(chunks).toString('utf8'),
    }),
  );
}
