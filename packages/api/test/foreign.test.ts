import type { InjectOptions } from 'fastify';
import { afterAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { callbackPath, claimAttempts, createFixture, csv, signed, startRun, statusForm } from './support/api.ts';
import { EXAMPLES } from './support/examples.ts';
import { collectRoutes } from './support/router.ts';
import { ABSENT, createWorld, dump, MARKER } from './support/world.ts';

/** What of another business stands elsewhere than in addresses: in cursors, Idempotency-Keys and callbacks. */

const { built: fixture, routes } = await collectRoutes(() => createFixture());
const world = await createWorld(fixture);
afterAll(async () => await fixture.close());
const { ours, theirs, own, foreign, keys } = world;

/** Does `work`; afterwards nothing of theirs may be different. */
async function unchanged(work: () => Promise<void>): Promise<void> {
  const before = await dump(fixture, theirs.business_id, true);
  await work();
  expect(await dump(fixture, theirs.business_id, true)).toEqual(before);
}

const paged = routes.filter(({ querystring }) => querystring instanceof z.ZodObject && 'after' in querystring.shape);

describe('a cursor', () => {
  it('is taken by several routes', () => expect(paged.length).toBeGreaterThan(5));

  it.each(paged)('of another business leads to nothing of it: $method $url', async ({ method, url }) => {
    const [example] = EXAMPLES[`${method} ${url}`] ?? [];
    const request: InjectOptions = { url, ...example?.request?.(own) };
    for (const id of [...Object.values(foreign), `${foreign.run}-1`, ABSENT]) {
      const separator = String(request.url).includes('?') ? '&' : '?';
      const paged_url = `${String(request.url)}${separator}after=${id}`;
      const { status, text } = await fixture.ask(keys.owner, method as 'GET', paged_url, request);
      if (Array.isArray(example?.may) && !example.may.includes('owner')) expect(status).toBe(403);
      else expect([200, 422]).toContain(status);
      expect(text).not.toContain(MARKER);
    }
  });
});

describe('an Idempotency-Key', () => {
  it('that another business has used starts a run of our own', async () => {
    const headers = { 'idempotency-key': 'the same' };
    const start = (key: string, { list, carrier_account }: typeof own) =>
      fixture.ask(key, 'POST', '/api/outbound_calls/start', {
        payload: { list_id: list, carrier_account_id: carrier_account },
        headers,
      });
    const first = await start(theirs.owner, foreign);
    await unchanged(async () => {
      // With their list it is neither their run nor a conflict with it, but a list that is not there.
      const peeked = await start(ours.admin, { ...own, list: foreign.list });
      expect(peeked).toMatchObject({ status: 404, json: { code: 'list_not_found' } });
      const second = await start(ours.owner, own);
      expect(second.status).toBe(201);
      expect(second.headers).not.toHaveProperty('idempotency-replayed');
      expect(second.json.run_id).not.toBe(first.json.run_id);
    });
  });

  it('that another business has used imports into our own list', async () => {
    const request = csv(2);
    const headers = { ...request.headers, 'idempotency-key': 'the same' };
    const into = (key: string, list: number) =>
      fixture.ask(key, 'POST', `/api/lists/${list}/import`, { ...request, headers });
    const first = await into(theirs.owner, foreign.list);
    await unchanged(async () => {
      const second = await into(ours.owner, own.list);
      expect(second.status).toBe(200);
      expect(second.json.import_id).not.toBe(first.json.import_id);
      expect(await into(ours.owner, foreign.list)).toMatchObject({ status: 404, json: { code: 'list_not_found' } });
    });
  });
});

describe("a carrier's callback", () => {
  /** Two businesses have accounts with the same token here, as they would with one account at the carrier. */
  it('about another business is believed by nobody but its own account, and changes nothing', async () => {
    const run = await startRun(fixture, theirs, { concurrency: 1 });
    const [attempt] = await claimAttempts(fixture, run.run_id);
    if (!attempt) throw new Error('no attempt');
    const ask = async (path: string, token: string) => {
      const answer = await fixture.ask(null, 'POST', path, signed(path, statusForm('CA1', 'completed'), token));
      return { status: answer.status, bytes: answer.text.replace(String(answer.json.request_id), '…') };
    };
    for (const kind of ['status', 'answer'] as const) {
      const path = callbackPath(kind, attempt);
      await unchanged(async () => {
        // Theirs with a token that is not theirs, and one that nobody has: the same words.
        const refused = await ask(path, 'our token');
        expect(refused.status).toBe(403);
        const nobodys = { ...attempt, business_id: ABSENT as typeof attempt.business_id };
        expect(await ask(callbackPath(kind, nobodys), 'our token')).toEqual(refused);
        expect(await ask(callbackPath(kind, attempt, own.carrier_account), 'our token')).toEqual(refused);
        expect(await ask(callbackPath(kind, attempt, ABSENT as typeof attempt.carrier_account_id), 'x')).toEqual(
          refused,
        );
      });
    }
  });
});
