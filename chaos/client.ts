import { setTimeout as pause } from 'node:timers/promises';
import { TRIAL } from './limits.ts';
import { nowUs } from './wait.ts';

/** An answer of the API, and when. */
export interface Answer {
  status: number;
  body: unknown;
  /** When the request that has this answer was sent, and when the answer was here. */
  sent_us: number;
  answered_us: number;
  /** Requests before this one got no answer. They may have been carried out, or may yet be. */
  silent: boolean;
}

export interface ClientTotals {
  requests: number;
  /** No answer: a connection that broke, or a time-out. */
  silent: number;
  /** HTTP 5xx: how often, by the error's code. */
  put_off: Record<string, number>;
  /** Of what was asked again until it was answered. */
  longest_wait_ms: number;
}

/** A program that uses the API through breaking connections, and knows what it was promised. */
export interface Client {
  /** Asks again until there is an answer below 500. Throws when there is none within the patience of a trial. */
  ask(key: string, method: string, path: string, body?: object | string, headers?: Headers): Promise<Answer>;
  totals: ClientTotals;
}
type Headers = Readonly<Record<string, string>>;

export function createClient(api_url: string): Client {
  const totals: ClientTotals = { requests: 0, silent: 0, put_off: {}, longest_wait_ms: 0 };

  async function once(method: string, path: string, body: string | null, headers: Headers) {
    const sent_us = nowUs();
    totals.requests += 1;
    try {
      const signal = AbortSignal.timeout(TRIAL.request_timeout_ms);
      const response = await fetch(api_url + path, { method, headers, body, signal });
      const text = await response.text();
      return { status: response.status, body: parse(text), sent_us, answered_us: nowUs() };
    } catch {
      return null;
    }
  }

  return {
    totals,
    async ask(key, method, path, body, more = {}) {
      const isText = typeof body === 'string';
      const headers: Record<string, string> = { authorization: `Bearer ${key}`, connection: 'close', ...more };
      if (body !== undefined) headers['content-type'] = isText ? 'text/csv' : 'application/json';
      const sent = body === undefined ? null : isText ? body : JSON.stringify(body);
      const since_ms = performance.now();
      let silent = false;
      for (;;) {
        const answer = await once(method, path, sent, headers);
        const waited_ms = performance.now() - since_ms;
        if (answer && answer.status < 500) {
          totals.longest_wait_ms = Math.max(totals.longest_wait_ms, waited_ms);
          return { ...answer, silent };
        }
        if (answer) {
          const code = errorCode(answer);
          totals.put_off[code] = (totals.put_off[code] ?? 0) + 1;
        } else totals.silent += 1;
        // What was answered with an error may have been carried out too: its COMMIT may be what was cut off.
        silent = true;
        if (waited_ms > TRIAL.request_patience_ms)
          throw new Error(`${method} ${path} had no answer within ${TRIAL.request_patience_ms} ms`);
        await pause(TRIAL.request_retry_ms);
      }
    },
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The code of the error in an answer of the API's; a proxy before it has none. */
function errorCode({ status, body }: Pick<Answer, 'status' | 'body'>): string {
  const code = typeof body === 'object' && body !== null && 'code' in body ? body.code : undefined;
  return typeof code === 'string' ? code : `HTTP ${status}`;
}
