import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { LedgerEntry } from '@carillon/carrier-sim';
import { LeadId } from '@carillon/contract';
import { eraseLead } from '@carillon/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Found } from './support/broken.ts';
import { expectFound } from './support/broken.ts';
import { type AuditedRun, createWorld, finishedRun, JOBS, openRun, type World } from './support/world.ts';

let world: World;
let dir: string;
let run: AuditedRun;
let ledger: LedgerEntry[];
beforeAll(async () => {
  world = await createWorld();
  dir = await mkdtemp(path.join(tmpdir(), 'carillon-ledger-'));
});
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
  await world.close();
});
beforeEach(async () => {
  run = await finishedRun(world);
  ledger = await ledgerOf(run);
});

const file = () => path.join(dir, 'ledger.ndjson');
const lines = (values: readonly object[]) => values.map((value) => `${JSON.stringify(value)}\n`).join('');

/** What the carrier would have in its books, had it been asked for what the rows say. */
async function ledgerOf({ business_id, run_id }: AuditedRun): Promise<LedgerEntry[]> {
  const made = await world.rows<Record<string, string>>(
    `SELECT a.*, l.phone, c.account_sid FROM
       (SELECT business_id, run_id, seq, attempt_no, revision, token, call_id, intent_us, ended_us, lead_id,
          carrier_account_id, from_number FROM carillon.attempts
        UNION ALL SELECT business_id, run_id, seq, attempt_no, revision, token, call_id, intent_us, NULL, lead_id,
          carrier_account_id, from_number FROM carillon.open_attempts) a
     JOIN carillon.leads l USING (business_id, lead_id)
     JOIN carillon.carrier_accounts c USING (business_id, carrier_account_id)
     WHERE business_id = $1 AND run_id = $2 AND call_id IS NOT NULL ORDER BY intent_us, seq`,
    [business_id, run_id],
  );
  return made.map((row, index) => {
    const created_us = Number(row.intent_us) + 1;
    const url = `http://127.0.0.1:9/prefix/carriers/twilio/${business_id}/${row.carrier_account_id}/${run_id}/${row.seq}/${row.attempt_no}/${row.token}`;
    const ended = { status: 'completed', at_us: created_us + 1 } as const;
    return {
      index,
      sid: row.call_id ?? '',
      account: row.account_sid ?? '',
      to: row.phone ?? '',
      from: row.from_number ?? '',
      created_at: '',
      created_us,
      url: `${url}/answer`,
      status_callback: `${url}/status`,
      outcome: 'answered',
      nth: 1,
      status: ended.status,
      statuses: [{ status: 'queued', at_us: created_us }, ended],
      response: 'sent',
      answered_by: null,
      warning: null,
    };
  });
}

async function judged(source = file()) {
  await writeFile(file(), lines(ledger));
  return await world.audit({ business_id: run.business_id, ledger: source });
}

const entry = (seq: number): LedgerEntry => {
  const found = ledger.find(({ url }) => new RegExp(`/${run.run_id}/${seq}/1/[^/]{22}/answer$`).test(url ?? ''));
  if (!found) throw new Error(`no call for job ${seq}`);
  return found;
};

describe('the carrier’s ledger', () => {
  it('is in order when each call has its attempt and each placed attempt its call', async () => {
    const report = await judged();
    expect(report).toMatchObject({ ok: true, violations: [], incomplete: [], checked: { ledger_calls: 10 } });
    expect(await world.audit({ run_id: run.run_id, ledger: file() })).toMatchObject({ ok: true });
  });

  const broken: [name: string, () => void, Found][] = [
    [
      'that lacks a call',
      () => (ledger = ledger.filter((call) => call !== entry(JOBS.plain))),
      { invariant: 2, job: JOBS.plain, what: /an attempt that names a call which the carrier does not have/ },
    ],
    [
      'with a call that bears another token',
      () => {
        const url = entry(JOBS.plain).url?.replace(/[^/]{22}\/answer/, 'AAAAAAAAAAAAAAAAAAAAAA/answer') ?? '';
        ledger.push({ ...entry(JOBS.plain), sid: 'CA-stray', url });
      },
      {
        invariant: 2,
        job: JOBS.plain,
        attempt: 1,
        what: /^Call CA-stray of .* belongs to no attempt: it names attempt 1 of job/,
      },
    ],
    [
      'with a call that names no attempt',
      () =>
        ledger.push({
          ...entry(JOBS.plain),
          sid: 'CA-stray',
          url: 'http://other.example/answer',
          status_callback: null,
        }),
      { invariant: 2, what: /^Call CA-stray of .* it names no attempt at all/ },
    ],
    [
      'with a call of a job that does not exist',
      () =>
        ledger.push({
          ...entry(JOBS.plain),
          sid: 'CA-stray',
          url: entry(JOBS.plain).url?.replace(/\/\d+(\/1\/[^/]{22}\/answer)$/, '/77$1') ?? '',
        }),
      { invariant: 2, job: 77, attempt: 1, what: /^Call CA-stray of .* belongs to no attempt/ },
    ],
    [
      'with a second call for one attempt',
      () => ledger.push({ ...entry(JOBS.plain), sid: 'CA-second' }),
      { invariant: 2, job: JOBS.plain, attempt: 1, what: /has call CA-second, names another call/ },
    ],
    [
      'with a call to another number',
      () => (entry(JOBS.plain).to = '+972500000001'),
      { invariant: 2, job: JOBS.plain, attempt: 1, what: /was to go to another number than the carrier says/ },
    ],
    [
      'with a call from another number',
      () => (entry(JOBS.plain).from = '+972500000001'),
      { invariant: 2, job: JOBS.plain, attempt: 1, what: /was to come from another number/ },
    ],
    [
      'with a call through another account',
      () => (entry(JOBS.plain).account = 'AC-other'),
      { invariant: 2, job: JOBS.plain, attempt: 1, what: /was to go through another account/ },
    ],
  ];
  it.each(broken)('%s is not', async (_, breakIt, found) => {
    breakIt();
    const { violations, ok } = await judged();
    expect(ok).toBe(false);
    expectFound(violations, run, [found]);
  });

  it('with a call for an attempt that is said to have made none is not, unless that call is being hung up', async () => {
    const [refused] = await world.rows<{ token: string }>(
      'SELECT token FROM carillon.attempts WHERE run_id = $1 AND seq = $2',
      [run.run_id, JOBS.refused],
    );
    const like = entry(JOBS.plain);
    const [lead] = await world.rows<{ phone: string }>(
      `SELECT phone FROM carillon.leads JOIN carillon.outbound_call_jobs USING (business_id, lead_id)
       WHERE run_id = $1 AND seq = $2`,
      [run.run_id, JOBS.refused],
    );
    const url = `http://127.0.0.1:9/carriers/twilio/${run.business_id}/${run.carrier_account_id}/${run.run_id}/${JOBS.refused}/1/${refused?.token}/answer`;
    ledger.push({ ...like, sid: 'CA-refused', url, to: lead?.phone ?? '' });
    const found: Found = {
      invariant: 2,
      job: JOBS.refused,
      attempt: 1,
      what: /is rejected, and the carrier made a call for it/,
    };
    expectFound((await judged()).violations, run, [found]);
    await world.rows("INSERT INTO carillon.unwanted_calls VALUES ($1, $2, 'CA-refused', 'superseded')", [
      run.business_id,
      run.carrier_account_id,
    ]);
    expect((await judged()).violations).toEqual([]);
  });

  it('is in order when people have changed their number or were erased since', async () => {
    const lead = async (seq: number) => {
      const [row] = await world.rows<{ lead_id: string }>(
        'SELECT lead_id FROM carillon.outbound_call_jobs WHERE run_id = $1 AND seq = $2',
        [run.run_id, seq],
      );
      return LeadId.parse(Number(row?.lead_id));
    };
    const options = { actor: { name: 'test', user_id: null }, limits: world.limits };
    for (const seq of [JOBS.answered, JOBS.plain]) await eraseLead(world.db, run.business_id, await lead(seq), options);
    await world.rows(
      "UPDATE carillon.leads SET phone = '+972500000007', updated_at = now() WHERE business_id = $1 AND lead_id = $2",
      [run.business_id, await lead(JOBS.last)],
    );
    expect(await judged()).toMatchObject({ ok: true, violations: [], checked: { ledger_calls: 10 } });
  });

  it('with more calls live at once than the lane has lines is not', async () => {
    for (const call of ledger.slice(0, 3)) call.statuses = call.statuses.slice(0, 1);
    // Three that live still, and the one after them.
    await world.rows('UPDATE carillon.lanes SET concurrency_limit = 3 WHERE business_id = $1', [run.business_id]);
    const { violations } = await judged();
    const carrier = violations.find(({ what }) => what.includes('live at the carrier'));
    expect(carrier).toMatchObject({
      invariant: 5,
      what: expect.stringMatching(/4 calls were live at the carrier; .* is 3$/),
    });
  });

  it('knows of no fault in calls whose attempts are still open', async () => {
    run = await openRun(world);
    ledger = await ledgerOf(run);
    // The carrier has accepted it, and nobody has been told yet.
    const [dialing] = await world.rows<{ token: string; to_number: string }>(
      "SELECT token, to_number FROM carillon.open_attempts WHERE run_id = $1 AND state = 'dialing'",
      [run.run_id],
    );
    const like = entry(1);
    const url = `http://h/carriers/twilio/${run.business_id}/${run.carrier_account_id}/${run.run_id}/4/1/${dialing?.token}/answer`;
    ledger.push({ ...like, sid: 'CA-new', url, to: dialing?.to_number ?? '' });
    expect(await judged()).toMatchObject({ ok: true, checked: { ledger_calls: 4 } });
  });
});

describe('calls that are made while the auditor reads', () => {
  it('are looked up again before they are called strays', async () => {
    await writeFile(file(), lines(ledger));
    let later: AuditedRun | undefined;
    // The ledger is asked for after the snapshot was taken; another run calls somebody in between.
    const server = await serve(async () => {
      later = await finishedRun(world);
      await world.rows('UPDATE carillon.carrier_accounts SET account_sid = $2 WHERE business_id = $1', [
        later.business_id,
        'AC',
      ]);
      const [mine] = await ledgerOf(later);
      return lines([...ledger, ...(mine ? [mine] : [])]);
    });
    try {
      const report = await world.audit({ business_id: run.business_id, ledger: urlOf(server) });
      expect(report).toMatchObject({ ok: true, violations: [] });
      expect(later).toBeDefined();
    } finally {
      server.close();
    }
  });

  it('of a run that is being audited are found in the newer snapshot', async () => {
    const open = await openRun(world);
    const before = await ledgerOf(open);
    const lease = { ...open, lease_epoch: 1 };
    const server = await serve(async () => {
      const [attempt] = await world.call(lease, 1);
      await world.tell(attempt, { kind: 'accepted', call_id: `N${open.run_id}` });
      const after = await ledgerOf(open);
      expect(after.length).toBe(before.length + 1);
      return lines(after);
    });
    try {
      const report = await world.audit({ business_id: open.business_id, ledger: urlOf(server) });
      expect(report.violations).toEqual([]);
      expect(report.checked.ledger_calls).toBe(before.length + 1);
    } finally {
      server.close();
    }
  });
});

describe('a ledger that can’t be read', () => {
  it.each([
    ['a file that is not there', () => path.join(dir, 'gone.ndjson'), /ENOENT/],
    ['an address where nobody is', () => 'http://127.0.0.1:1', /can't be reached/],
  ])('leaves invariant 2 unproven: %s', async (_, source, why) => {
    const report = await judged(source());
    expect(report).toMatchObject({ ok: false, violations: [] });
    expect(report.incomplete).toEqual([
      { invariant: 2, business_id: run.business_id, what: expect.stringMatching(why) },
    ]);
  });

  it('does so with a line that is none, and with a server that refuses', async () => {
    await writeFile(file(), `${lines(ledger)}{"sid": 7}\n`);
    const report = await world.audit({ business_id: run.business_id, ledger: file() });
    expect(report.incomplete).toMatchObject([
      { what: expect.stringMatching(/a line is none of the simulated carrier/) },
    ]);
    const server = createServer((_, response) => response.writeHead(503).end());
    await listening(server);
    try {
      const refused = await world.audit({ business_id: run.business_id, ledger: urlOf(server) });
      expect(refused.incomplete).toMatchObject([{ what: expect.stringMatching(/HTTP 503/) }]);
      expect(refused.ok).toBe(false);
    } finally {
      server.close();
    }
  });

  it('is none of those which the simulator writes itself', async () => {
    const written = ledger.flatMap(({ sid, account, created_us, to, from, url, status_callback }) => [
      { type: 'call', sid, account, created_us, request: { to, from, url, status_callback } },
      { type: 'status', sid, status: 'completed', at_us: created_us + 1 },
    ]);
    await writeFile(file(), lines([{ type: 'ledger', version: 1 }, ...written]));
    const report = await world.audit({ business_id: run.business_id, ledger: file() });
    expect(report).toMatchObject({ ok: true, checked: { ledger_calls: 10 } });
    await writeFile(file(), lines([{ type: 'ledger', version: 1 }, ...written.slice(2)]));
    expect((await world.audit({ business_id: run.business_id, ledger: file() })).violated[2]).toBe(1);
  });
});

async function serve(body: () => Promise<string>): Promise<Server> {
  const server = createServer((request, response) => {
    if (request.url !== '/_sim/ledger') return void response.writeHead(404).end();
    body().then(
      (text) => response.end(text),
      (error: unknown) => response.destroy(error as Error),
    );
  });
  await listening(server);
  return server;
}

const listening = (server: Server) => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const urlOf = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
