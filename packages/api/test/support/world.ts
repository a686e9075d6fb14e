import type { BusinessId } from '@carillon/contract';
import { createKey, createSystemKey, enterBusiness, localActor, revokeKey, revokeSystemKey } from '@carillon/engine';
import { type Caller, createCaller, type Fixture, type Key, startRun } from './api.ts';

/** Two businesses that know nothing of each other, everybody who may come to the door, and what can be named. */

/** What a request may name. Runs in three states, since not everything can be done in each. */
export interface Ids {
  run: number;
  paused_run: number;
  final_run: number;
  /** Its first job is under review. */
  review_run: number;
  list: number;
  lead: number;
  import: number;
  carrier_account: number;
  key: number;
  business: number;
}

/** An id that nobody has. */
export const ABSENT = 987_654_321;
export const ABSENT_IDS: Ids = {
  run: ABSENT,
  paused_run: ABSENT,
  final_run: ABSENT,
  review_run: ABSENT,
  list: ABSENT,
  lead: ABSENT,
  import: ABSENT,
  carrier_account: ABSENT,
  key: ABSENT,
  business: ABSENT,
};

/** Stands in every text of the other business; an answer to anybody else that holds it is a leak. */
export const MARKER = 'FOREIGN';

/** Those who have a key that opens something. */
export const CALLERS = ['agent', 'admin', 'owner', 'entered', 'system'] as const;
export type CallerName = (typeof CALLERS)[number];

const actor = localActor('test');
const past = new Date('2020-01-01T00:00:00Z');

export async function createWorld(fixture: Fixture) {
  const ours = await createCaller(fixture);
  const theirs = await createCaller(fixture);
  await mark(fixture, theirs.business_id);
  const own = await createIds(fixture, ours, 'ours');
  const foreign = await createIds(fixture, theirs, MARKER);
  const system = await createSystemKey(fixture.db, {}, actor);
  const entry = await enter(fixture, ours.business_id, system);
  const keys: Record<CallerName, string> = {
    agent: ours.agent,
    admin: ours.admin,
    owner: ours.owner,
    entered: entry,
    system: system.key,
  };
  return {
    ours,
    theirs,
    own,
    foreign,
    keys,
    strangers: await createStrangers(fixture, ours, theirs),
    /** Ids of ours for a request that changes things: what it may use up is new. */
    freshIds: async (names: readonly (keyof Ids)[]): Promise<Ids> => ({
      ...own,
      ...(await createUsable(fixture, ours, 'ours', names)),
    }),
  };
}
export type World = Awaited<ReturnType<typeof createWorld>>;

async function enter(fixture: Fixture, business_id: BusinessId, system: Parameters<typeof enterBusiness>[2]) {
  return (await enterBusiness(fixture.db, business_id, system, { reason: 'matrix', minutes: 60 }, actor)).key;
}

async function mark(fixture: Fixture, business_id: BusinessId): Promise<void> {
  await fixture.rows('UPDATE carillon.businesses SET name = $2 WHERE business_id = $1', [business_id, MARKER]);
  await fixture.rows('UPDATE carillon.carrier_accounts SET name = $2 WHERE business_id = $1', [business_id, MARKER]);
  await fixture.rows('UPDATE carillon.lists SET name = $2 WHERE business_id = $1', [business_id, MARKER]);
  await fixture.rows(
    'UPDATE carillon.leads SET name = $2, external_id = $2 || lead_id, attributes = $3 WHERE business_id = $1',
    [business_id, MARKER, { note: MARKER }],
  );
}

/** Keys that open nothing, and no key at all. */
async function createStrangers(fixture: Fixture, ours: Caller, theirs: Caller): Promise<Record<string, Key>> {
  const { db } = fixture;
  const revoked = await createKey(db, ours.business_id, { role: 'owner' }, actor);
  await revokeKey(db, ours.business_id, revoked.key_id, actor);
  const expired = await createKey(db, ours.business_id, { role: 'owner', expires_at: past }, actor);
  const system_revoked = await createSystemKey(db, {}, actor);
  const entry_ended = await enter(fixture, ours.business_id, system_revoked);
  await revokeSystemKey(db, system_revoked.key_id, actor);
  const system_expired = await createSystemKey(db, { expires_at: past }, actor);
  const [, business, id] = ours.owner.split('_');
  return {
    'no key': null,
    malformed: 'nonsense',
    'a wrong secret': `ck_${business}_${id}_${'A'.repeat(32)}`,
    "another business's number": ours.owner.replace(`ck_${business}_`, `ck_${theirs.business_id}_`),
    revoked: revoked.key,
    expired: expired.key,
    'an entry whose administrator is revoked': entry_ended,
    'a malformed system key': 'ck_system_1_x',
    "a system key's wrong secret": `ck_system_${system_expired.key_id}_${'A'.repeat(32)}`,
    'a revoked system key': system_revoked.key,
    'an expired system key': system_expired.key,
  };
}

async function createIds(fixture: Fixture, caller: Caller, name: string): Promise<Ids> {
  const [row] = await fixture.rows<{ import_id: string; lead_id: string }>(
    `SELECT (SELECT min(import_id) FROM carillon.list_imports WHERE business_id = $1) AS import_id,
            (SELECT min(lead_id) FROM carillon.leads WHERE business_id = $1) AS lead_id`,
    [caller.business_id],
  );
  return {
    ...ABSENT_IDS,
    list: caller.list_id,
    carrier_account: caller.carrier_account_id,
    business: caller.business_id,
    import: Number(row?.import_id),
    lead: Number(row?.lead_id),
    ...(await createUsable(fixture, caller, name, ['run', 'paused_run', 'final_run', 'review_run', 'key'])),
  };
}

/** What a request may change for good. */
async function createUsable(fixture: Fixture, caller: Caller, name: string, names: readonly (keyof Ids)[]) {
  const ids: Partial<Ids> = {};
  const start = async () => (await startRun(fixture, caller, { name, answer: { say: name } })).run_id;
  const post = async (url: string, payload: object = {}) => {
    const { status, text } = await fixture.ask(caller.admin, 'POST', url, { payload });
    if (status !== 200) throw new Error(`${url} in the world of the matrix: ${text}`);
  };
  if (names.includes('run')) ids.run = await start();
  if (names.includes('paused_run')) {
    ids.paused_run = await start();
    await post(`/api/outbound/runs/${ids.paused_run}/pause`);
  }
  if (names.includes('final_run')) {
    ids.final_run = await start();
    await post('/api/outbound/stop-queue', { run_id: ids.final_run });
  }
  if (names.includes('review_run')) ids.review_run = await putUnderReview(fixture, await start());
  if (names.includes('lead')) {
    const payload = { phone: `+97252${String(++leads).padStart(7, '0')}`, name };
    ids.lead = Number((await fixture.ask(caller.admin, 'POST', '/api/leads', { payload })).json.lead_id);
  }
  if (names.includes('key'))
    ids.key = (await createKey(fixture.db, caller.business_id, { role: 'agent', label: name }, actor)).key_id;
  return ids;
}

let leads = 0;

async function putUnderReview(fixture: Fixture, run_id: number): Promise<number> {
  await fixture.rows(`UPDATE carillon.outbound_call_jobs SET status = 'needs_review' WHERE run_id = $1 AND seq = 1`, [
    run_id,
  ]);
  await fixture.rows(
    'UPDATE carillon.outbound_call_runs SET queued = queued - 1, needs_review = 1, claim_cursor = 2 WHERE run_id = $1',
    [run_id],
  );
  return run_id;
}

/** Every row of a business in every table, but its trail unless asked for; to be compared with a later one. */
export async function dump(fixture: Fixture, business_id: BusinessId, with_trail: boolean) {
  const tables = await fixture.rows<{ table: string; rows: string }>(
    `SELECT c.relname AS table, query_to_xml(
       format('SELECT * FROM carillon.%I t WHERE business_id = %s ORDER BY t::text', c.relname, $1::bigint), true, false, '')::text AS rows
     FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'business_id'
     WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1`,
    [business_id],
  );
  return Object.fromEntries(
    tables.filter(({ table }) => with_trail || table !== 'audit_events').map(({ table, rows }) => [table, rows]),
  );
}
