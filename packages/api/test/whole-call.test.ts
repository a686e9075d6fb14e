import { randomBytes } from 'node:crypto';
import { callbackUrls } from '@carillon/contract';
import { type CarrierSim, startCarrierSim } from '@carillon/carrier-sim';
import { createCarrierDrivers } from '@carillon/carriers';
import { readCredentials } from '@carillon/engine';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Api, startApi } from '../src/index.ts';
import {
  accountBody,
  AUTH_TOKEN,
  claimAttempts,
  createCaller,
  createFixture,
  type Fixture,
  startRun,
} from './support/api.ts';
import { follow } from './support/events.ts';

// Only what a worker does is done by hand here: the carrier, its signatures, the sockets and the API are whole.
let fixture: Fixture;
let sim: CarrierSim;
let api: Api;
beforeAll(async () => {
  sim = await startCarrierSim({ port: 0 });
  sim.behaviour = {
    default: {
      ring_ms: 20,
      talk_ms: 20,
      response_delay_ms: 0,
      callback: { delay_ms: 0 },
      outcomes: { answered: 1 },
    },
    accounts: { AC1: { auth_token: AUTH_TOKEN } },
  };
  fixture = await createFixture({ secret: randomBytes(32) });
  const { public_url: _, ...options } = fixture.api_options;
  api = await startApi({ ...options, host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await api.close();
  await fixture.close();
  await sim.close();
});

const OPEN_GATE = { pace: async () => {}, mayStart: () => true };

it('a call that the carrier takes ends its run by nothing but the callbacks', async () => {
  const caller = await createCaller(fixture, 1);
  const account = await fixture.ask(caller.owner, 'POST', '/api/carrier_accounts', {
    payload: accountBody({ base_url: sim.url, account_sid: 'AC1' }),
  });
  const carrier_account_id = Number(account.json.carrier_account_id);
  const run = await startRun(fixture, caller, {
    carrier_account_id,
    answer: { say: 'שלום <וברכה>', language: 'he-IL' },
  });
  const stream = await follow(api.url, caller.agent, run.run_id);
  const [attempt] = await claimAttempts(fixture, run.run_id);
  if (!attempt) throw new Error('no attempt');
  const credentials = await readCredentials(
    fixture.db,
    caller.business_id,
    attempt.carrier_account_id as never,
    fixture.api_options.secret,
  );
  const placed = await createCarrierDrivers()
    .get('twilio')
    ?.place(
      {
        credentials,
        to: attempt.to,
        from: attempt.from,
        ...callbackUrls(api.url, 'twilio', attempt, attempt.carrier_account_id),
        ring_timeout_ms: 5_000,
        call_max_ms: 60_000,
        expires_at_ms: attempt.deadline_wall_ms,
      },
      OPEN_GATE,
    );
  expect(placed).toMatchObject({ kind: 'accepted' });

  await stream.end();
  expect(stream.events.at(-1)?.data).toMatchObject({ status: 'completed', completed: 1, in_progress: 0 });
  const [call] = sim.ledger();
  const job = await fixture.ask(caller.agent, 'GET', `/api/outbound/runs/${run.run_id}/jobs/${run.run_id}-1`);
  expect(job.json).toMatchObject({
    status: 'completed',
    attempts_made: [{ state: 'closed', outcome: 'completed', call_id: call?.sid }],
  });
  // No warning: it fetched what the lead hears, and could follow it.
  expect(sim.ledger()).toMatchObject([{ to: attempt.to, status: 'completed', warning: null }]);
});
