import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import twilio from 'twilio';
import { onTestFinished } from 'vitest';
import { startCarrierSim } from '../src/index.ts';
import { quick } from './quick.ts';
import type { BehaviourInput, CarrierSim, CarrierSimOptions, LedgerEntry } from '../src/index.ts';

export const ACCOUNT = 'AC00000000000000000000000000000001';
export const TOKEN = 'the-auth-token';
export const FROM = '+972550000001';
export const TO = '+972501234567';

export async function startSim(
  behaviour: BehaviourInput = {},
  options: Partial<CarrierSimOptions> = {},
): Promise<CarrierSim> {
  const sim = await startCarrierSim({
    port: 0,
    behaviour: { ...behaviour, default: { ...quick, ...behaviour.default } },
    ...options,
  });
  onTestFinished(() => sim.close());
  return sim;
}

/** Twilio's own client, sent to the simulator instead of to Twilio. */
export function clientOf(sim: CarrierSim, account = ACCOUNT, token = TOKEN, httpClient = new twilio.RequestClient()) {
  const send = httpClient.request.bind(httpClient);
  httpClient.request = (options) => send({ ...options, uri: options.uri.replace('https://api.twilio.com', sim.url) });
  return twilio(account, token, { httpClient });
}

/** Waits for a condition, looked at again and again; fails with `what` when it does not come true in time. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, within_ms = 5000) {
  const deadline_ms = performance.now() + within_ms;
  while (!(await condition())) {
    if (performance.now() > deadline_ms) throw new Error(`Waited ${within_ms} ms in vain: ${what}`);
    await setTimeout(5);
  }
}

export function entryOf(sim: CarrierSim, sid: string): LedgerEntry {
  const entry = sim.ledger().find((one) => one.sid === sid);
  if (!entry) throw new Error(`No call ${sid} in the ledger`);
  return entry;
}

export async function ended(sim: CarrierSim, sid: string, status = 'completed'): Promise<LedgerEntry> {
  await until(`${sid} ${status}`, () => entryOf(sim, sid).status === status);
  return entryOf(sim, sid);
}

export interface Received {
  method: string;
  path: string;
  params: Record<string, string>;
  headers: Record<string, string | string[] | undefined>;
  /** As Twilio's own validator judges it. */
  signed: boolean;
}

export interface Reply {
  status?: number;
  type?: string;
  body?: string;
  /** Cuts the connection instead of answering. */
  reset?: boolean;
}

/** The customer's server: it remembers what the carrier sent and answers as the test says. */
export async function startCustomer(answer: (request: Received) => Reply | Promise<Reply> = () => ({})) {
  const received: Received[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const url = new URL(`http://${request.headers.host}${request.url}`);
    const params = Object.fromEntries(new URLSearchParams(body));
    const signature = String(request.headers['x-twilio-signature']);
    const one: Received = {
      method: request.method ?? '',
      path: url.pathname,
      params: request.method === 'GET' ? Object.fromEntries(url.searchParams) : params,
      headers: request.headers,
      signed: twilio.validateRequest(TOKEN, signature, url.href, params),
    };
    received.push(one);
    const { status = 200, type = 'text/xml', body: text = '<Response/>', reset } = await answer(one);
    if (reset) return void request.socket.resetAndDestroy();
    response.writeHead(status, { 'content-type': type }).end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    received,
    to: (path: string) => received.filter((one) => one.path === path),
    server,
  };
}

export function temporaryFile(name: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'carillon-sim-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return join(directory, name);
}

/** A create request without Twilio's client, for what that can't do. */
export function create(sim: Pick<CarrierSim, 'url'>, fields: Record<string, string> = {}): Promise<Response> {
  return fetch(`${sim.url}/2010-04-01/Accounts/${ACCOUNT}/Calls.json`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${ACCOUNT}:${TOKEN}`).toString('base64')}` },
    body: new URLSearchParams({ To: TO, From: FROM, Twiml: '<Response/>', ...fields }),
    redirect: 'manual',
  });
}
