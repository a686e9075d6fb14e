import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as engine from '../src/index.ts';
import { systemClock } from '../src/clock.ts';
import type { Evidence } from '../src/call/attempt.ts';
import { actor, createFixture, type Fixture, live } from './support/fixture.ts';
import { csv } from './support/leads.ts';
import { type Inhabitant, inhabit, SECRET } from './support/two-businesses.ts';

/**
 * Every function that the engine hands out, called for one business with the ids of another: it gets nothing, and
 * nothing of the other changes. Once with the walls, and once with row security switched off, so that each statement's
 * own business_id must do. A function that is added to the engine fails here until it has its line.
 */

/** Functions that take no business, each with the reason why. */
const NO_BUSINESS: Record<string, string> = {
  // Of the process and the installation.
  createWaker: 'says "look", and nothing of what is there',
  listenForWakes: 'hears the same',
  discoveryUrl: 'an address',
  openDatabase: 'opens the doors',
  ping: 'asks nothing of any table',
  sqlState: 'reads an error',
  violatedConstraint: 'reads an error',
  isConnectionLost: 'reads an error',
  withPatience: 'waits for the database, for whatever it is given to do',
  withReceipts: 'leaves receipts, for whatever it is given to do',
  checkLogin: 'reads the catalog',
  checkSchema: 'reads the migrations',
  migrate: 'is the owner',
  migrationStatus: 'is the owner',
  adopt: 'makes businesses of its own of an older database',
  localActor: 'a name',
  csvSafeLine: 'a text',
  parseReportCursor: 'a text',
  createBusiness: 'makes a business of its own',
  createCanary: 'makes a business of its own',
  leaveWorkers: 'workers belong to no business',
  tellWorkerClock: 'workers belong to no business',
  isWorkerAlive: 'workers belong to no business',
  probeClock: 'the clock',
  probeLoad: 'figures of the server',
  probeServer: 'the server',
  readVitals: 'figures of the server and of all work',
  probeWorkers: 'workers belong to no business',
  probeWalls: 'tries the walls themselves',
  probeMigrations: 'reads the migrations',
  // Of a system administrator, who belongs to none.
  authenticateSystem: 'a key of no business',
  createSystemKey: 'a key of no business',
  listSystemKeys: 'keys of no business',
  revokeSystemKey: 'a key of no business',
  listBusinesses: 'for system administrators: names alone',
  enterBusiness: 'the audited way in',
  securityReport: 'for system administrators',
  sharedNumbers: 'the same',
  recordStrangers: 'the trail of the installation',
  // Look for work across all businesses, and do it inside each: neighbours.test.ts.
  endOverdueRuns: 'looks for work of all',
  findDue: 'looks for work of all',
  findCanaries: 'looks for work of all',
  findBusinesses: 'looks for work of all',
  chooseLiveRuns: 'looks for work of all',
  leaseRuns: 'looks for work of all',
  sweepOnce: 'looks for work of all',
  accountsToSettle: 'looks for work of all',
  restoreReport: 'of the whole installation',
  suspectRestore: 'of the whole installation',
  acknowledgeRestore: 'of the whole installation',
  watchForRestore: 'of the whole installation',
  takeUnwanted: 'looks for work of all',
};

interface World {
  fixture: Fixture;
  db: Fixture['db'];
  ours: Inhabitant;
  theirs: Inhabitant;
}

/** What comes of it. An error is its code, or else its SQLSTATE or message. */
type Outcome = { gives: unknown } | { throws: string };

/** The call, and what must come of it: the code of a refusal, or what is given. */
type Try = [call: (world: World) => unknown, wanted: Outcome | ((given: unknown) => void)];

const refused = (code: string): Outcome => ({ throws: code });
const gives = (value: unknown): Outcome => ({ gives: value });
/** Only that it tells nothing of theirs, which is looked at in any case. */
const anything = (): void => {};

/** A row of theirs under our business's number: what somebody would say who has found out its ids. */
const mixed = ({ ours, theirs }: World) => ({ ...theirs.open, business_id: ours.business_id });
const lease = ({ ours, theirs }: World) => ({
  business_id: ours.business_id,
  run_id: theirs.run_id,
  carrier_account_id: theirs.carrier_account_id,
  lease_epoch: theirs.open.lease_epoch,
});
const canary = ({ ours, theirs }: World) => ({
  business_id: ours.business_id,
  carrier_account_id: theirs.carrier_account_id,
  list_id: theirs.list_id,
  lead_ids: theirs.lead_ids,
});
const errand = (world: World) => ({ ...mixed(world), errand: 'poll' as const });
const talks: Evidence = live('CA-made-up', 'in_call');
const id = ({ ours }: World) => ours.business_id;
const page = { limit: 100 };

const TRIES: Record<string, Try> = {
  authenticate: [
    // Their key with our number in front.
    (w) => engine.authenticate(w.db, w.theirs.key.replace(/^ck_\d+_/, `ck_${id(w)}_`)),
    (given) => expect(given).toMatchObject({ principal: null }),
  ],
  createKey: [(w) => engine.createKey(w.db, id(w), { role: 'owner' }, actor), anything],
  listKeys: [(w) => engine.listKeys(w.db, id(w), page), anything],
  revokeKey: [(w) => engine.revokeKey(w.db, id(w), w.theirs.key_id, actor), refused('key_not_found')],
  listCarrierAccounts: [(w) => engine.listCarrierAccounts(w.db, id(w), page), anything],
  moveCarrierAccount: [
    (w) => engine.moveCarrierAccount(w.db, id(w), w.theirs.carrier_account_id, 'http://127.0.0.1:2', actor),
    refused('carrier_account_not_found'),
  ],
  readCredentials: [
    (w) => engine.readCredentials(w.db, id(w), w.theirs.carrier_account_id, SECRET),
    refused('carrier_account_not_found'),
  ],
  resumeLane: [
    (w) => engine.resumeLane(w.db, id(w), w.theirs.carrier_account_id, actor),
    refused('carrier_account_not_found'),
  ],
  noteCallback: [(w) => engine.noteCallback(w.db, id(w), w.theirs.carrier_account_id), gives(undefined)],
  readAccountStates: [(w) => engine.readAccountStates(w.db, id(w), 100), anything],
  readBusinessLoad: [(w) => engine.readBusinessLoad(w.db, id(w), 30_000), anything],

  createLead: [
    // Their lead's number: a lead of our own, and not theirs.
    async (w) => (await engine.createLead(w.db, id(w), { phone: '+972528000003' }, actor)).created,
    gives(true),
  ],
  getLead: [(w) => engine.getLead(w.db, id(w), w.theirs.lead_ids[0]!), refused('lead_not_found')],
  updateLead: [
    (w) => engine.updateLead(w.db, id(w), w.theirs.lead_ids[0]!, { name: 'x' }, actor),
    refused('lead_not_found'),
  ],
  eraseLead: [
    (w) => engine.eraseLead(w.db, id(w), w.theirs.lead_ids[0]!, { actor, limits: w.fixture.limits }),
    refused('lead_not_found'),
  ],
  leadHistory: [(w) => engine.leadHistory(w.db, id(w), w.theirs.lead_ids[0]!, page), refused('lead_not_found')],
  searchLeads: [
    (w) => engine.searchLeads(w.db, id(w), { search: 'theirs', ...page }),
    gives({ items: [], next: null }),
  ],
  createList: [(w) => engine.createList(w.db, id(w), { name: 'a list' }, actor), anything],
  listLists: [(w) => engine.listLists(w.db, id(w), { limit: 1 }), anything],
  listListLeads: [(w) => engine.listListLeads(w.db, id(w), w.theirs.list_id, page), refused('list_not_found')],
  importLeads: [
    (w) => engine.importLeads(w.db, id(w), w.theirs.list_id, csv('phone\n0521234567'), { actor }),
    refused('list_not_found'),
  ],
  getImport: [(w) => engine.getImport(w.db, id(w), w.theirs.import_id), refused('import_not_found')],
  listImports: [(w) => engine.listImports(w.db, id(w), w.theirs.list_id, page), refused('list_not_found')],
  rejectedLines: [
    (w) => Array.fromAsync(engine.rejectedLines(w.db, id(w), w.theirs.import_id)),
    refused('import_not_found'),
  ],

  createRun: [
    (w) => engine.createRun(w.db, id(w), { list_id: w.theirs.list_id }, { actor, limits: w.fixture.limits }),
    refused('list_not_found'),
  ],
  'createRun over leads': [
    (w) => engine.createRun(w.db, id(w), { lead_ids: w.theirs.lead_ids }, { actor, limits: w.fixture.limits }),
    refused('lead_not_found'),
  ],
  'createRun through an account': [
    (w) =>
      engine.createRun(
        w.db,
        id(w),
        { list_id: w.ours.list_id, carrier_account_id: w.theirs.carrier_account_id },
        { actor, limits: w.fixture.limits },
      ),
    refused('carrier_account_not_found'),
  ],
  'createRun under their Idempotency-Key': [
    async (w) =>
      (
        await engine.createRun(
          w.db,
          id(w),
          { list_id: w.ours.list_id, carrier_account_id: w.ours.carrier_account_id },
          { actor, limits: w.fixture.limits, idempotency_key: w.theirs.idempotency_key },
        )
      ).created,
    gives(true),
  ],
  getRun: [(w) => engine.getRun(w.db, id(w), w.theirs.run_id), refused('run_not_found')],
  listRuns: [(w) => engine.listRuns(w.db, id(w), page), anything],
  listJobs: [(w) => engine.listJobs(w.db, id(w), w.theirs.run_id, page), refused('run_not_found')],
  getJob: [(w) => engine.getJob(w.db, id(w), w.theirs.done), refused('job_not_found')],
  exportRun: [
    (w) => Array.fromAsync(engine.exportRun(w.db, id(w), w.theirs.run_id, { language: 'en', rows: 'attempts' })),
    refused('run_not_found'),
  ],
  countCalls: [(w) => engine.countCalls(w.db, id(w)), anything],
  pauseRun: [(w) => engine.pauseRun(w.db, id(w), w.theirs.run_id, 'hang_up', actor), refused('run_not_found')],
  resumeRun: [(w) => engine.resumeRun(w.db, id(w), w.theirs.run_id, w.fixture.limits, actor), refused('run_not_found')],
  stopRun: [(w) => engine.stopRun(w.db, id(w), w.theirs.run_id, 'hang_up', actor), refused('run_not_found')],
  cancelJob: [(w) => engine.cancelJob(w.db, id(w), w.theirs.open, w.fixture.limits, actor), refused('job_not_found')],
  resolveJob: [
    (w) => engine.resolveJob(w.db, id(w), w.theirs.review, 'called', { actor, limits: w.fixture.limits }),
    refused('job_not_found'),
  ],
  reconcileNow: [(w) => engine.reconcileNow(w.db, id(w), { run_id: w.theirs.run_id, actor }), refused('run_not_found')],
  fillAhead: [(w) => engine.fillAhead(w.db, id(w), w.theirs.run_id, w.fixture.limits), refused('run_not_found')],
  chooseRuns: [(w) => engine.chooseRuns(w.db, id(w), { runs_max: 100, jobs_max: 1_000 }), anything],
  recountRun: [(w) => engine.recountRun(w.db, id(w), w.theirs.run_id), gives(null)],
  listAuditEvents: [
    (w) => engine.listAuditEvents(w.db, id(w), { subject: { type: 'run', id: String(w.theirs.run_id) }, ...page }),
    gives({ items: [], next: null }),
  ],
  recordSecurity: [
    (w) => engine.recordSecurity(w.db, id(w), [{ action: 'access.forbidden', actor, after: {}, times: 1 }]),
    gives(undefined),
  ],
  readBusiness: [
    // Inside a transaction, of whose business it tells. Nobody outside the engine has one.
    (w) => import('../src/db/database.ts').then(({ inBusiness }) => inBusiness(w.db, id(w), engine.readBusiness)),
    anything,
  ],

  // What a worker says of a run that is not in the business that it names.
  heartbeat: [
    (w) => engine.heartbeat(w.db, [lease(w)], w.theirs.open.worker_id, w.fixture.limits),
    (given) => expect(given).toMatchObject({ lost: [{}], failed: [] }),
  ],
  restRuns: [(w) => engine.restRuns(w.db, [lease(w)], w.theirs.open.worker_id, w.fixture.limits, () => {}), gives([])],
  releaseLeases: [(w) => engine.releaseLeases(w.db, [lease(w)], w.theirs.open.worker_id), gives(undefined)],
  claim: [
    (w) => engine.claim(w.db, lease(w), w.theirs.open.worker_id, systemClock, w.fixture.limits),
    (given) => expect(given).toMatchObject({ state: 'lost', attempts: [] }),
  ],
  recordEvidence: [
    (w) =>
      engine.recordEvidence(
        w.db,
        id(w),
        w.theirs.run_id,
        [{ key: mixed(w), evidence: talks, actor }],
        w.fixture.limits,
      ),
    gives(['unknown_attempt']),
  ],
  createGatherer: [
    async (w) => {
      const waker = { wake: () => {}, close: async () => {} };
      const gatherer = engine.createGatherer(w.db, waker, w.fixture.limits, () => {});
      return await gatherer.record({ key: mixed(w), evidence: talks, actor });
    },
    gives('unknown_attempt'),
  ],
  readAnswer: [(w) => engine.readAnswer(w.db, mixed(w)), gives(null)],
  takeTurn: [(w) => engine.takeTurn(w.db, errand(w), 0), gives(null)],
  expireDialing: [(w) => engine.expireDialing(w.db, [errand(w)]), gives(0)],
  boundCallIds: [
    async (w) => {
      const unwanted = w.theirs.unwanted_call_id;
      const listed = [w.theirs.open.call_id ?? '', unwanted.replace('forgotten', '2'), unwanted];
      expect((await engine.boundCallIds(w.db, w.theirs, listed)).size).toBe(3);
      return [...(await engine.boundCallIds(w.db, mixed(w), listed))];
    },
    gives([]),
  ],
  reportForgottenCall: [
    // The account that it names is none of ours.
    (w) => engine.reportForgottenCall(w.db, id(w), w.theirs.carrier_account_id, 'CA-made-up', actor),
    refused('23503'),
  ],
  accountIsSettled: [
    (w) => engine.accountIsSettled(w.db, lease(w), 1, { listed: 0, forgotten: 0, reviewed: 0 }, actor),
    gives(undefined),
  ],
  accountIsUnsettled: [(w) => engine.accountIsUnsettled(w.db, lease(w), 'made up'), anything],
  takeSettleTurn: [(w) => engine.takeSettleTurn(w.db, lease(w), 0), gives(null)],
  reviewForgotten: [
    // Their lead's number, which is a lead of ours as well by now.
    (w) =>
      engine.reviewForgotten(w.db, lease(w), [{ call_id: 'CA-made-up', to: '+972528000003' }], {
        limits: w.fixture.limits,
        actor,
      }),
    // The account that it names is none of ours.
    refused('23503'),
  ],
  unwantedIsOver: [
    (w) =>
      engine.unwantedIsOver(w.db, {
        business_id: id(w),
        carrier_account_id: w.theirs.carrier_account_id,
        call_id: w.theirs.unwanted_call_id,
      }),
    gives(undefined),
  ],

  // What the readiness check does with a business that it takes for its own.
  removeCanary: [(w) => engine.removeCanary(w.db, id(w)), refused('42501')],
  startCanaryRun: [
    (w) => engine.startCanaryRun(w.db, canary(w), w.fixture.limits),
    refused('carrier_account_not_found'),
  ],
  stopCanaryRun: [(w) => engine.stopCanaryRun(w.db, canary(w), w.theirs.run_id), refused('run_not_found')],
  plantStaleLease: [
    (w) => engine.plantStaleLease(w.db, canary(w), w.theirs.run_id, 'x', 1_000, w.fixture.limits),
    refused('the canary run could not be leased'),
  ],
  lookAtCanaryRun: [(w) => engine.lookAtCanaryRun(w.db, canary(w), w.theirs.run_id), refused('the canary run is gone')],
  probeUniqueRunLead: [
    (w) => engine.probeUniqueRunLead(w.db, canary(w), w.theirs.run_id),
    (given) => expect(given).toMatchObject({ duplicate_refused_by: expect.stringMatching(/_fkey$/) }),
  ],
  substituteWorker: [
    (w) => engine.substituteWorker(w.db, canary(w), w.theirs.run_id, systemClock, w.fixture.limits),
    gives(null),
  ],

  // The last, for they leave behind what bears the name of something of theirs: our own, like it and apart from it.
  listNamed: [async (w) => (await engine.listNamed(w.db, id(w), { name: 'theirs list' }, actor)).leads, gives(0)],
  createCarrierAccount: [
    async (w) => {
      const [theirs] = (await engine.listCarrierAccounts(w.db, w.theirs.business_id, page)).items;
      if (!theirs) throw new Error('they have no account');
      const made = await engine.createCarrierAccount(w.db, id(w), { ...theirs, auth_token: 'x' }, SECRET, actor);
      return made.carrier_account_id === theirs.carrier_account_id;
    },
    gives(false),
  ],
};

const WALLED = `SELECT c.relname::text AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
   WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = 'business_id'
   ORDER BY 1`;

/** Every row of a business, in every table. */
async function rowsOf({ fixture }: World, business_id: number): Promise<Record<string, unknown[]>> {
  const found: Record<string, unknown[]> = {};
  for (const { name } of await fixture.rows<{ name: string }>(WALLED))
    found[name] = (
      await fixture.rows<{ row: unknown }>(
        `SELECT to_jsonb(t) AS row FROM carillon.${name} t WHERE business_id = $1 ORDER BY to_jsonb(t)::text`,
        [business_id],
      )
    ).map(({ row }) => row);
  return found;
}

async function outcomeOf(call: (world: World) => unknown, world: World): Promise<Outcome & { said: string }> {
  try {
    const given = await call(world);
    return { gives: given, said: JSON.stringify(given) ?? '' };
  } catch (error) {
    const { code, message, details } = error as { code?: string; message: string; details?: unknown };
    return { throws: code ?? message, said: JSON.stringify([message, details]) };
  }
}

it('every function that the engine hands out is tried, or needs no business', () => {
  const functions = Object.entries(engine).filter(([, value]) => typeof value === 'function');
  const classes = functions.filter(([, value]) => /^class\b/.test(String(value))).map(([name]) => name);
  const known = [
    ...Object.keys(NO_BUSINESS),
    ...Object.keys(TRIES).map((name) => name.replace(/ .*$/, '')),
    ...classes,
  ];
  const names = functions.map(([name]) => name);
  expect(
    names.filter((name) => !known.includes(name)),
    'without a line in TRIES or NO_BUSINESS',
  ).toEqual([]);
  expect(
    known.filter((name) => !names.includes(name)),
    'with a line, but gone',
  ).toEqual([]);
});

describe.each([
  ['behind the walls', []],
  ['with row security switched off', ['ENABLE', 'FORCE']],
])('%s', (_, switched) => {
  let world: World;
  beforeAll(async () => {
    const fixture = await createFixture();
    const theirs = await inhabit(fixture, 'theirs', 8_000_000);
    const ours = await inhabit(fixture, 'ours', 3_000_000);
    world = { fixture, db: fixture.db, ours, theirs };
    if (switched.length === 0) return;
    for (const { name } of await fixture.rows<{ name: string }>(WALLED)) {
      await fixture.rows(`ALTER TABLE carillon.${name} DISABLE ROW LEVEL SECURITY`);
      await fixture.rows(`ALTER TABLE carillon.${name} NO FORCE ROW LEVEL SECURITY`);
    }
  });
  afterAll(async () => await world.fixture.close());

  it('both businesses have something in the tables that a call touches', async () => {
    for (const { business_id } of [world.ours, world.theirs]) {
      const rows = await rowsOf(world, business_id);
      const empty = Object.keys(rows).filter((table) => rows[table]?.length === 0);
      // The others are filled by paths of their own, and held by the matrix of walls.test.ts.
      expect(
        [
          'leads',
          'lists',
          'list_members',
          'outbound_call_runs',
          'outbound_call_jobs',
          'open_attempts',
          'attempts',
          'lanes',
          'carrier_accounts',
          'api_keys',
          'unwanted_calls',
          'import_lines',
          'audit_events',
        ].filter((table) => empty.includes(table)),
      ).toEqual([]);
    }
  });

  it.each(Object.entries(TRIES))('%s', async (_name, [call, wanted]) => {
    const before = await rowsOf(world, world.theirs.business_id);
    const { said, ...outcome } = await outcomeOf(call, world);
    expect(await rowsOf(world, world.theirs.business_id)).toEqual(before);
    if (typeof wanted === 'function') {
      expect(outcome).toHaveProperty('gives');
      wanted('gives' in outcome ? outcome.gives : undefined);
    } else expect(outcome).toEqual(wanted);
    // Names, numbers, ids at the carrier, tokens: all that is theirs alone.
    for (const mark of ['theirs', '97252800', '972399980', world.theirs.open.token, world.theirs.key])
      expect(said).not.toContain(mark);
  });
});
