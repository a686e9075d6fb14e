import { fork } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createBehaviour } from '../src/behaviour.ts';
import { drawFor, drawPlan } from '../src/fate.ts';
import { startCarrierSim } from '../src/index.ts';
import type { CarrierSim, LedgerEntry } from '../src/index.ts';
import {
  ACCOUNT,
  clientOf,
  create,
  ended,
  entryOf,
  FROM,
  startCustomer,
  startSim,
  temporaryFile,
  TO,
  until,
} from './harness.ts';

const OTHER = 'AC00000000000000000000000000000002';
const json = async (sim: CarrierSim, path: string) => (await fetch(sim.url + path)).json();
const lines = async (sim: CarrierSim, query = '') => {
  const text = await (await fetch(`${sim.url}/_sim/ledger${query}`)).text();
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as LedgerEntry);
};
const call = (sim: CarrierSim, to: string, account = ACCOUNT) =>
  clientOf(sim, account).calls.create({ to, from: FROM, twiml: '<Response><Say>Hello</Say></Response>' });
const allOver = (sim: CarrierSim) =>
  until('all calls are over', () => sim.ledger().every(({ status }) => status === 'completed'));

describe('the ledger', () => {
  test('is given as one line of JSON for each call, and in pieces', async () => {
    const sim = await startSim();
    const customer = await startCustomer();
    const url = `${customer.url}/answer?t=1`;
    await clientOf(sim).calls.create({ to: TO, from: FROM, url, statusCallback: `${customer.url}/status?t=1` });
    for (const n of [1, 2, 3]) await call(sim, `+97250000000${n}`);
    await allOver(sim);
    const all = await lines(sim);
    expect(all).toEqual(sim.ledger());
    expect(all.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(all[0]).toMatchObject({
      account: ACCOUNT,
      to: TO,
      from: FROM,
      url,
      status_callback: `${customer.url}/status?t=1`,
      outcome: 'answered',
      status: 'completed',
      response: 'sent',
      nth: 1,
    });
    expect(await lines(sim, '?since=2')).toEqual(all.slice(2));
    expect(await lines(sim, `?since=${all[2]?.sid}`)).toEqual(all.slice(3));
    expect(await lines(sim, '?since=1&limit=2')).toEqual(all.slice(1, 3));
    expect(await lines(sim, '?since=9')).toEqual([]);
    expect((await fetch(`${sim.url}/_sim/ledger?since=CAnone`)).status).toBe(422);
  });

  test('has no way to be shortened', async () => {
    const sim = await startSim();
    await call(sim, TO);
    for (const [method, path] of [
      ['POST', '/_sim/reset'],
      ['DELETE', '/_sim/ledger'],
      ['PUT', '/_sim/ledger'],
    ]) {
      expect((await fetch(sim.url + path, { method })).status).toBe(404);
    }
    const { sid } = sim.ledger()[0] as LedgerEntry;
    await expect(clientOf(sim).calls(sid).remove()).rejects.toMatchObject({ status: 404 });
    expect(sim.ledger()).toHaveLength(1);
  });

  test('is counted: numbers, those called twice, the most at once and in a second', async () => {
    const sim = await startSim({ numbers: { [TO]: { talk_ms: 60_000 } } });
    await call(sim, TO);
    for (const n of [1, 2]) {
      const { sid } = await call(sim, `+97250000000${n}`);
      await ended(sim, sid);
    }
    const { sid } = await call(sim, '+972500000001');
    await ended(sim, sid);
    await call(sim, '+972500000001', OTHER);
    await until('one is left', () => sim.ledger().filter(({ status }) => status !== 'completed').length === 1);
    expect(await json(sim, '/_sim/totals')).toMatchObject({
      calls: 5,
      numbers: 3,
      doubled: 1,
      live: 1,
      max_live: 2,
      max_starts_per_second: 5,
      accounts: {
        [ACCOUNT]: { calls: 4, numbers: 3, doubled: 1, live: 1 },
        [OTHER]: { calls: 1, doubled: 0, live: 0 },
      },
      create_requests: { received: 5, accepted: 5, refused: 0, dropped: 0 },
    });
    expect(await json(sim, '/_sim/live')).toMatchObject({ calls: [{ to: TO }], totals: { live: 1 } });
  });

  test('counts the starts of the busiest second, not of all time', async () => {
    let now_us = 1_790_000_000_000_000;
    const sim = await startSim({}, { now: () => now_us });
    for (const step_us of [0, 400_000, 599_999, 1, 300_000, 2_000_000]) {
      now_us += step_us;
      await call(sim, TO);
    }
    // 0.0, 0.4 and 0.999999 are within a second, and so are 0.4, 0.999999, 1.0 and 1.3.
    expect(await json(sim, '/_sim/totals')).toMatchObject({ calls: 6, max_starts_per_second: 4 });
  });
});

describe('a restart on the same ledger file', () => {
  test('restores finished calls, lists and totals exactly', async () => {
    const ledgerFile = temporaryFile('deep/ledger.ndjson');
    const before = await startSim({}, { ledgerFile });
    for (const n of [1, 2, 3, 1]) await call(before, `+97250000000${n}`);
    await call(before, TO, OTHER);
    await allOver(before);
    await until('all are answered', () => before.ledger().every(({ response }) => response === 'sent'));
    const [ledger, totals, list] = [await lines(before), await json(before, '/_sim/totals'), await shown(before)];
    await before.close();
    const after = await startSim({}, { ledgerFile });
    expect(await lines(after)).toEqual(ledger);
    const { create_requests: _since_start, ...kept } = totals as Record<string, unknown>;
    expect(await json(after, '/_sim/totals')).toMatchObject(kept);
    expect(await shown(after)).toEqual(list);
    const { sid } = await call(after, '+972500000001');
    expect(entryOf(after, sid)).toMatchObject({ index: 5, nth: 3 });
  });

  const shown = async (sim: CarrierSim) => (await clientOf(sim).calls.list()).map((one) => one.toJSON());

  test('goes on with the calls that were live, and signs with the token of their creator', async () => {
    const ledgerFile = temporaryFile('ledger.ndjson');
    const customer = await startCustomer();
    const slow = { default: { ring_ms: 60_000, calls_per_second: 1 } };
    const before = await startSim(
      { ...slow, numbers: { '+972500000002': { ring_ms: 10, talk_ms: 60_000 } } },
      { ledgerFile },
    );
    const start = (to: string) =>
      clientOf(before).calls.create({
        to,
        from: FROM,
        twiml: '<Response><Say>Hello</Say></Response>',
        timeout: 1,
        timeLimit: 2,
        statusCallback: `${customer.url}/${to.slice(-1)}`,
        statusCallbackEvent: ['initiated', 'ringing', 'answered', 'completed'],
      });
    // The queue lets one through each second.
    const talking = await start('+972500000002');
    await until('it is answered', () => entryOf(before, talking.sid).status === 'in-progress');
    const ringing = await start('+972500000001');
    await until('it rings', () => entryOf(before, ringing.sid).status === 'ringing');
    const queued = await start('+972500000003');
    await until('all is told', () => customer.received.length === 5);
    await before.close();
    expect(before.ledger().map(({ status }) => status)).toEqual(['in-progress', 'ringing', 'queued']);

    const after = await startSim({}, { ledgerFile });
    expect(after.ledger()).toHaveLength(3);
    await ended(after, ringing.sid, 'no-answer');
    await ended(after, talking.sid);
    await ended(after, queued.sid, 'no-answer');
    await until('all is told', () => customer.received.length === 10);
    expect(customer.received.every(({ signed }) => signed)).toBe(true);
    const told = (n: number) =>
      customer.to(`/${n}`).map(({ params }) => `${params.SequenceNumber} ${params.CallStatus}`);
    expect(told(1)).toEqual(['0 initiated', '1 ringing', '2 no-answer']);
    expect(told(2)).toEqual(['0 initiated', '1 ringing', '2 in-progress', '3 completed']);
    expect(told(3)).toEqual(['0 initiated', '1 ringing', '2 no-answer']);
    expect(await json(after, '/_sim/totals')).toMatchObject({ calls: 3, live: 0 });
  });

  test('knows a call whose creator was never answered, and that the answer was lost', async () => {
    const ledgerFile = temporaryFile('ledger.ndjson');
    const before = await startSim({ default: { response_delay_ms: 60_000 } }, { ledgerFile });
    const lost = create(before).catch(() => 'lost');
    await until('the call', () => before.ledger().length === 1);
    // As a kill would leave it: the file, while the process still runs.
    const copy = temporaryFile('copy.ndjson');
    writeFileSync(copy, readFileSync(ledgerFile));
    const after = await startSim({}, { ledgerFile: copy });
    expect(after.ledger()[0]).toMatchObject({ to: TO, response: 'lost' });
    await before.close();
    expect(await lost).toBe('lost');
  });

  test('drops a last line that a kill cut short, and writes on after the one before', async () => {
    const ledgerFile = temporaryFile('ledger.ndjson');
    const before = await startSim({}, { ledgerFile });
    await call(before, TO);
    await allOver(before);
    await before.close();
    const whole = statSync(ledgerFile).size;
    appendFileSync(ledgerFile, '{"type":"call","index":1,"sid":"CA');
    const after = await startSim({}, { ledgerFile });
    expect(statSync(ledgerFile).size).toBe(whole);
    await call(after, TO);
    await after.close();
    expect((await startSim({}, { ledgerFile })).ledger()).toHaveLength(2);
  });

  test('refuses a file that is no ledger, or one with a hole, in clear words', async () => {
    const ledgerFile = temporaryFile('ledger.ndjson');
    const start = () => startCarrierSim({ port: 0, ledgerFile });
    writeFileSync(ledgerFile, 'name,phone\n');
    await expect(start()).rejects.toThrow(/ledger\.ndjson is no ledger of the simulated carrier: line 1 can't be read/);
    writeFileSync(
      ledgerFile,
      '{"type":"ledger","version":1}\n{"type":"status","sid":"CA1","status":"busy","at_us":1}\n',
    );
    await expect(start()).rejects.toThrow(/call CA1, which the lines before it do not know/);
    writeFileSync(ledgerFile, '{"type":"status","sid":"CA1","status":"busy","at_us":1}\n');
    await expect(start()).rejects.toThrow(/its first line must say so/);
  });

  test('keeps the file from other users, as it holds tokens', async () => {
    const ledgerFile = temporaryFile('ledger.ndjson');
    await startSim({}, { ledgerFile });
    expect(statSync(ledgerFile).mode & 0o777).toBe(0o600);
  });
});

describe('fates', () => {
  const numbers = Array.from({ length: 40 }, (_, i) => `+9725000000${String(i).padStart(2, '0')}`);
  const mixed = {
    default: { outcomes: { answered: 1, busy: 1, no_answer: 1, voicemail: 1, failed: 1 }, lose_response: 0.3 },
  };

  async function fates(seed: number, order: string[]) {
    const sim = await startSim(mixed, { seed });
    for (const To of [...order, ...order]) await create(sim, { To }).catch(() => 'lost');
    await until('all are over', async () => ((await json(sim, '/_sim/totals')) as { live: number }).live === 0);
    await until('all answers are known', () => sim.ledger().every(({ response }) => response !== 'pending'));
    return sim
      .ledger()
      .map(({ to, nth, status, response }) => `${to} ${nth} ${status} ${response}`)
      .sort();
  }

  test('depend on the seed, the number and how often it was called, not on the order', async () => {
    const [first, again, other] = [
      await fates(7, numbers),
      await fates(7, numbers.toReversed()),
      await fates(8, numbers),
    ];
    expect(again).toEqual(first);
    expect(other).not.toEqual(first);
    // The second call of a number has a fate of its own.
    const statusOf = (nth: number) =>
      first.filter((line) => line.includes(` ${nth} `)).map((line) => line.split(' ')[2]);
    expect(statusOf(2)).not.toEqual(statusOf(1));
    expect(first.filter((line) => line.endsWith('lost')).length).toBeGreaterThan(10);
    expect(first.filter((line) => line.endsWith('lost')).length).toBeLessThan(40);
  });
});

test('fates of consecutive numbers are spread as the weights say', () => {
  const settings = createBehaviour({ default: { outcomes: { answered: 3, busy: 1 }, ring_ms: [0, 100] } });
  for (const seed of [1, 2, 3]) {
    const plans = Array.from({ length: 4000 }, (_, i) => {
      const to = `+97250${String(i).padStart(7, '0')}`;
      return drawPlan(settings.forNumber(ACCOUNT, to), drawFor(seed, to, 1));
    });
    const busy = plans.filter(({ outcome }) => outcome === 'busy');
    expect(Math.abs(busy.length / plans.length - 0.25)).toBeLessThan(0.02);
    // Other draws for the same number are independent of its outcome.
    const mean = (of: { ring_ms: number }[]) => of.reduce((sum, { ring_ms }) => sum + ring_ms, 0) / of.length;
    expect(Math.abs(mean(busy) - 50)).toBeLessThan(5);
    expect(Math.abs(mean(plans) - 50)).toBeLessThan(5);
  }
});

test('after kill -9 every call that a customer was told of is in the ledger, in the state that it was told', async () => {
  const ledgerFile = temporaryFile('ledger.ndjson');
  const customer = await startCustomer();
  const child = fork(fileURLToPath(new URL('./sim-process.ts', import.meta.url)), [ledgerFile]);
  onTestFinished(() => void child.kill('SIGKILL'));
  const [url] = (await once(child, 'message')) as [string];
  const told: string[] = [];
  const callers = Array.from({ length: 8 }, async (_, caller) => {
    for (let n = 0; ; n++) {
      const To = `+9725${caller}${String(n).padStart(7, '0')}`;
      const answer = await create({ url }, { To, StatusCallback: `${customer.url}/status` }).catch(() => null);
      if (answer === null) return;
      told.push(((await answer.json().catch(() => ({}))) as { sid?: string }).sid ?? 'cut short');
    }
  });
  await until('some are told of, some over', () => told.length > 50 && customer.received.length > 20);
  child.kill('SIGKILL');
  await Promise.all(callers);
  const sim = await startSim({ default: { ring_ms: 60_000 } }, { ledgerFile });
  const statusOf = new Map(sim.ledger().map(({ sid, status }) => [sid, status]));
  expect(told.filter((sid) => sid !== 'cut short' && !statusOf.has(sid))).toEqual([]);
  const ends = customer.received.filter(({ params }) => statusOf.get(params.CallSid ?? '') !== 'completed');
  expect(ends).toEqual([]);
});

describe('starting and stopping', () => {
  test('a port that is taken is an error, and nothing is left behind', async () => {
    const sim = await startSim();
    await expect(startCarrierSim({ port: sim.port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });

  test('closing does not wait for calls, answers or customers', async () => {
    const sim = await startSim({ default: { response_delay_ms: 60_000, talk_ms: 60_000 } });
    const customer = await startCustomer(() => new Promise<never>(() => {}));
    const cut = create(sim, { Url: `${customer.url}/answer` }).catch(() => 'cut');
    await until('the customer is asked', () => customer.received.length === 1);
    await sim.close();
    expect(await cut).toBe('cut');
    await until(
      'no connection is left',
      async () => (await promisify(customer.server.getConnections).call(customer.server)) === 0,
    );
    await expect(fetch(sim.url)).rejects.toThrow('fetch failed');
  });

  test('the page shows live calls and loads nothing from elsewhere', async () => {
    const sim = await startSim();
    const answer = await fetch(sim.url);
    const html = await answer.text();
    expect(answer.headers.get('content-type')).toContain('text/html');
    expect(html).toContain("fetch('/_sim/live')");
    expect(html).not.toMatch(/https?:|src=|@import|<link/);
  });
});
