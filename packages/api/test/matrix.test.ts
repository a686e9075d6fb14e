import type { InjectOptions } from 'fastify';
import pg from 'pg';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { createFixture, type Key } from './support/api.ts';
import { EXAMPLES } from './support/examples.ts';
import { collectRoutes, type Route } from './support/router.ts';
import { ABSENT_IDS, CALLERS, createWorld, dump, type Ids, MARKER } from './support/world.ts';

/**
 * Every route × everybody who may come × {own ids, another business's, nobody's}. The routes are the router's own: one
 * without an entry in support/examples.ts fails.
 */

const { built: fixture, routes } = await collectRoutes(() =>
  createFixture({
    // Nobody asks too often here, and what is noted of refusals is written at the end, beside no request.
    api_limits: {
      requests_per_minute: 1_000_000,
      security_gather_ms: 3_600_000,
      security_strangers_gather_ms: 3_600_000,
    },
  }),
);
const world = await createWorld(fixture);
afterAll(async () => await fixture.close());

const whole = await dump(fixture, world.theirs.business_id, true);
const { ours, theirs, own, foreign, keys, strangers } = world;
const nameOf = ({ method, url }: Route) => `${method} ${url}`;
const cases = routes.flatMap((route) =>
  (EXAMPLES[nameOf(route)] ?? []).map((example, n) => ({ ...route, example, name: `${nameOf(route)} #${n + 1}` })),
);
type Case = (typeof cases)[number];

it('has an example of every route of the router, and of no other', () => {
  expect(routes.map(nameOf).toSorted(), 'add the route to support/examples.ts').toEqual(
    Object.keys(EXAMPLES).toSorted(),
  );
});

/** An answer without what differs between any two: times, and the id of the request. */
async function ask(key: Key, { method, url, example }: Case, ids: Ids) {
  const request: InjectOptions = { url, ...example.request?.(ids) };
  const answer = await fixture.ask(key, method as 'GET', String(request.url), request);
  const { 'x-request-id': request_id, date: _, ...headers } = answer.headers;
  const text = answer.text.replaceAll(String(request_id), '…');
  return { status: answer.status, code: answer.json.code, bytes: JSON.stringify([answer.status, headers, text]) };
}

/** The ids that an example names, each by itself another business's, and nobody's. */
function variants({ example }: Case, ids: Ids) {
  const names = Object.keys(example.names ?? {}) as (keyof Ids)[];
  return names.map((name) => ({
    name,
    foreign: { ...ids, [name]: foreign[name] },
    absent: { ...ids, [name]: ABSENT_IDS[name] },
  }));
}

/** Does `work`; afterwards nothing of theirs may be different, and of ours nothing but the trail unless `may_change`. */
async function unchanged(work: () => Promise<void>): Promise<void> {
  const both = async () => [
    await dump(fixture, theirs.business_id, true),
    await dump(fixture, ours.business_id, false),
  ];
  const before = await both();
  await work();
  expect(await both()).toEqual(before);
}

const keyed = cases.filter(({ example }) => Array.isArray(example.may));
const callersOf = ({ example }: Case) =>
  CALLERS.filter((caller) => (example.may as readonly string[]).includes(caller));
const writing = ({ method }: Case) => method !== 'GET' && method !== 'HEAD';

describe.each(keyed)('$name', (one) => {
  it('tells strangers nothing, and all of them the same', async () => {
    await unchanged(async () => {
      const answers = new Map<string, string[]>();
      for (const [name, key] of Object.entries(strangers))
        for (const ids of [own, ...variants(one, own).flatMap((v) => [v.foreign, v.absent])]) {
          const { status, bytes } = await ask(key, one, ids);
          expect([name, status]).toEqual([name, 401]);
          answers.set(bytes, [...(answers.get(bytes) ?? []), name]);
        }
      expect([...answers.values()].length, JSON.stringify([...answers])).toBe(1);
    });
  });

  it(`lets in ${callersOf(one).join(', ')}, and shows nothing of another business`, async () => {
    const theirs_before = await dump(fixture, theirs.business_id, true);
    for (const caller of callersOf(one)) {
      const ids = writing(one) ? await world.freshIds(Object.keys(one.example.names ?? {}) as (keyof Ids)[]) : own;
      const { status, bytes } = await ask(keys[caller], one, ids);
      expect([caller, status, bytes]).toEqual([caller, one.example.ok, bytes]);
      // System administrators see what businesses are called, and of nothing else.
      if (caller !== 'system') expect(bytes).not.toContain(MARKER);
    }
    expect(await dump(fixture, theirs.business_id, true)).toEqual(theirs_before);
  });
});

describe.each(keyed.filter(({ example }) => example.names))('$name', (one) => {
  it("takes another business's id for one that nobody has", async () => {
    await unchanged(async () => {
      for (const caller of callersOf(one))
        for (const { name, ...ids } of variants(one, own)) {
          const absent = await recorded(() => ask(keys[caller], one, ids.absent));
          expect([caller, name, absent.status, absent.code]).toEqual([caller, name, 404, one.example.names?.[name]]);
          // No business is foreign to the installation.
          if (caller === 'system') continue;
          const other = await recorded(() => ask(keys[caller], one, ids.foreign));
          expect(other.bytes).toBe(absent.bytes);
          // The time that it takes is that of the statements, and those are the same ones, by primary key.
          expect(other.statements).toEqual(absent.statements);
          expect(other.statements.length).toBeGreaterThan(3);
        }
    });
  });
});

describe.each(keyed.filter((one) => callersOf(one).length < CALLERS.length))('$name', (one) => {
  const kept_out = CALLERS.filter((caller) => !callersOf(one).includes(caller));
  it(`keeps out ${kept_out.join(', ')}, whatever is named`, async () => {
    await unchanged(async () => {
      for (const caller of kept_out) {
        const answers = [];
        for (const ids of [own, ...variants(one, own).flatMap((v) => [v.foreign, v.absent])])
          answers.push(await ask(keys[caller], one, ids));
        for (const { status, bytes } of answers) {
          expect([caller, status]).toEqual([caller, 403]);
          expect(bytes).toBe(answers[0]?.bytes);
        }
        const code = caller === 'system' ? 'business_not_entered' : 'forbidden';
        expect([caller, answers[0]?.code]).toEqual([caller, code]);
      }
    });
  });
});

/** What the API does once a second, whoever asks it for what. */
const BEAT = /carillon\.(witnesses|installation_state)/;

/** What is answered, with the statements that were sent for it. */
async function recorded<T>(work: () => Promise<T>): Promise<T & { statements: string[] }> {
  const query = vi.spyOn(pg.Client.prototype, 'query');
  try {
    const answer = await work();
    const texts = query.mock.calls.map(([statement]: unknown[]) =>
      typeof statement === 'object' && statement !== null && 'text' in statement ? statement.text : statement,
    );
    return { ...answer, statements: texts.map(String).filter((text) => !BEAT.test(text)) };
  } finally {
    query.mockRestore();
  }
}

describe('routes without a key', () => {
  const open = cases.filter(({ example }) => example.may === 'anybody');
  it.each(open)('$name answers everybody alike', async (one) => {
    for (const key of [...Object.values(strangers), ...Object.values(keys)]) {
      const { status, bytes } = await ask(key, one, own);
      expect(status).toBe(one.example.ok);
      expect(bytes).not.toContain(MARKER);
    }
  });
});

it('has not left a trace at the other business, in its trail neither', async () => {
  // What was noted of refusals is written now.
  await fixture.app.close();
  expect(await dump(fixture, theirs.business_id, true)).toEqual(whole);
  const [refusals] = await fixture.rows(
    "SELECT count(*)::int AS events FROM carillon.audit_events WHERE business_id = $1 AND kind = 'security'",
    [ours.business_id],
  );
  expect(refusals?.events).toBeGreaterThan(0);
});
