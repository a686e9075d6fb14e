import { CarrierAccountId, type LeadId, parseJobId, type RunId, type Seq } from '@carillon/contract';
import type { AttemptKey } from '../../src/call/attempt.ts';
import { cancelJob } from '../../src/call/cancel-job.ts';
import { nextDue } from '../../src/call/candidates.ts';
import { type ClaimedAttempt, claim } from '../../src/call/claim.ts';
import { reconcileNow } from '../../src/call/reconcile.ts';
import { recordEvidence } from '../../src/call/record.ts';
import { resolveJob } from '../../src/call/resolve.ts';
import { boundCallIds, expireDialing, findDue, takeTurn } from '../../src/call/tend.ts';
import { systemClock } from '../../src/clock.ts';
import { type Database, inBusiness } from '../../src/db/database.ts';
import { updateLead } from '../../src/lead/edit.ts';
import { eraseLead } from '../../src/lead/erase.ts';
import { leadHistory } from '../../src/lead/history.ts';
import { getLead, searchLeads } from '../../src/lead/search.ts';
import type { Limits } from '../../src/limits.ts';
import { countCalls } from '../../src/run/counts.ts';
import { createRun } from '../../src/run/create.ts';
import { exportRun } from '../../src/run/export.ts';
import { fillAhead } from '../../src/run/fill.ts';
import { heartbeat } from '../../src/run/heartbeat.ts';
import { type Lease, leaseRuns } from '../../src/run/lease.ts';
import { pauseRun } from '../../src/run/pause.ts';
import { getJob, getRun, listJobs, listRuns } from '../../src/run/read.ts';
import { resumeRun } from '../../src/run/resume.ts';
import { stopRun } from '../../src/run/stop.ts';
import { sweepOnce } from '../../src/run/sweep.ts';
import { actor, ended, type Fixture, live } from './fixture.ts';
import type { Big } from './million.ts';

/** What the processes do all day, each by the function that does it. Run in order: later ones need what earlier ones made. */
export interface Doing {
  db: Database;
  big: Big;
  limits: Limits;
  worker_id: string;
  lease?: Lease;
  attempts?: ClaimedAttempt[];
}

const raise = (error: unknown) => {
  throw error;
};
const all = (doing: Doing, evidence: (attempt: AttemptKey) => Parameters<typeof ended>[1] | 'ringing') => {
  const items = (doing.attempts ?? []).map((key) => {
    const wanted = evidence(key);
    const call_id = `C-${key.run_id}-${key.seq}-${key.attempt_no}`;
    return { key, actor, evidence: wanted === 'ringing' ? live(call_id, wanted) : ended(call_id, wanted) };
  });
  return recordEvidence(doing.db, doing.big.business_id, doing.big.run_id, items, doing.limits);
};

export const DOINGS: readonly { name: string; run(doing: Doing): Promise<unknown> }[] = [
  {
    name: 'lease',
    async run(doing) {
      const { taken } = await leaseRuns(doing.db, doing.worker_id, 0, doing.limits, raise);
      doing.lease = taken.find(({ run_id }) => run_id === doing.big.run_id);
      if (!doing.lease) throw new Error('the run was not leased');
    },
  },
  {
    name: 'heartbeat',
    run: ({ db, lease, worker_id, limits }) => heartbeat(db, lease ? [lease] : [], worker_id, limits),
  },
  {
    name: 'claim',
    async run(doing) {
      if (!doing.lease) throw new Error('no lease');
      const claimed = await claim(doing.db, doing.lease, doing.worker_id, systemClock, doing.limits);
      doing.attempts = claimed.attempts;
      if (claimed.attempts.length < 2) throw new Error(`claimed ${claimed.attempts.length}: ${claimed.state}`);
    },
  },
  {
    name: 'next due',
    run: ({ db, big, lease }) =>
      inBusiness(db, big.business_id, (tx) => {
        if (!lease) throw new Error('no lease');
        return nextDue(tx, lease);
      }),
  },
  { name: 'record what is ringing', run: (doing) => all(doing, () => 'ringing') },
  { name: 'settle', run: (doing) => all(doing, ({ seq }) => (seq % 2 === 0 ? 'completed' : 'busy')) },
  { name: 'settle again', run: (doing) => all(doing, ({ seq }) => (seq % 2 === 0 ? 'completed' : 'busy')) },
  {
    name: 'tend',
    async run({ db, limits, big }) {
      const due = await findDue(db, limits);
      const mine = { business_id: big.business_id, carrier_account_id: big.carrier_account_id, run_id: big.run_id };
      const seq = (Math.floor(big.jobs / 2) + 1) as Seq;
      await expireDialing(db, [...due, { ...mine, seq, errand: 'expire' }]);
      if (!(await takeTurn(db, { ...mine, seq, errand: 'poll' }, 0))) throw new Error('no turn was to be had');
      const listed = [`CA${big.run_id}-1`, `CB${seq}`, 'CA-of-somebody-else'];
      const bound = await boundCallIds(db, mine, listed);
      if (bound.size !== 2) throw new Error(`of ${listed.join(', ')} these are found: ${[...bound].join(', ')}`);
    },
  },
  { name: 'fill', run: ({ db, big, limits }) => fillAhead(db, big.business_id, big.filling, limits) },
  { name: 'sweep', run: ({ db, limits }) => sweepOnce(db, limits, raise) },
  { name: 'run status', run: ({ db, big }) => getRun(db, big.business_id, big.run_id) },
  { name: 'list runs', run: ({ db, big }) => listRuns(db, big.business_id, { limit: 20 }) },
  { name: 'counts', run: ({ db, big }) => countCalls(db, big.business_id) },
  {
    name: 'page of jobs',
    run: ({ db, big }) => listJobs(db, big.business_id, big.run_id, { after: Math.floor(big.jobs / 2), limit: 100 }),
  },
  { name: 'one job', run: ({ db, big }) => getJob(db, big.business_id, { run_id: big.run_id, seq: 1 as Seq }) },
  {
    name: 'export',
    async run({ db, big }) {
      const pieces = exportRun(db, big.business_id, big.ended, { language: 'en', rows: 'leads' });
      for (let n = 0; n < 3; n++) await pieces.next();
      await pieces.return(undefined);
    },
  },
  {
    name: 'search',
    async run({ db, big }) {
      const find = (query: object) => searchLeads(db, big.business_id, { limit: 50, ...query });
      for (const query of [{}, { search: 'lead 1' }, { search: '05' }, { search: 'crm-1' }, { external_id: 'crm-7' }])
        await find(query);
      const [lead] = (await find({ limit: 1 })).items;
      if ((await find({ phone: lead?.phone })).items.length !== 1) throw new Error('a lead was not found');
      const { next } = await find({ search: 'lead 1', limit: 1 });
      if (next) await find({ search: 'lead 1', after: next });
    },
  },
  {
    name: 'one lead',
    async run({ db, big, limits }) {
      const [lead, other] = (await searchLeads(db, big.business_id, { limit: 2 })).items;
      const [lead_id, other_id] = [lead?.lead_id as LeadId, other?.lead_id as LeadId];
      await getLead(db, big.business_id, lead_id);
      await leadHistory(db, big.business_id, lead_id, { limit: 20 });
      await updateLead(
        db,
        big.business_id,
        lead_id,
        { name: 'Lead changed', phone: `+97258${String(lead_id % 10_000_000).padStart(7, '0')}` },
        actor,
      );
      await eraseLead(db, big.business_id, other_id, { actor, limits });
    },
  },
  { name: 'reconcile', run: ({ db, big }) => reconcileNow(db, big.business_id, { run_id: big.run_id, actor }) },
  {
    name: 'cancel and resolve a job',
    async run({ db, big, limits }) {
      const { business_id } = big;
      const after = Math.floor(big.jobs / 2);
      const [queued] = (await listJobs(db, business_id, big.filling, { status: 'queued', after, limit: 1 })).items;
      const [unsure] = (await listJobs(db, business_id, big.ended, { status: 'needs_review', limit: 1 })).items;
      const keys = [queued, unsure].map((job) => parseJobId(job?.job_id ?? ''));
      if (!keys[0] || !keys[1]) throw new Error('no job to cancel, or none to resolve');
      await cancelJob(db, business_id, keys[0], limits, actor);
      await resolveJob(db, business_id, keys[1], 'called', { limits, actor });
    },
  },
  {
    name: 'create, pause, resume, stop',
    async run({ db, big, limits }) {
      const { business_id, list_id } = big;
      const carrier_account_id = CarrierAccountId.parse(big.carrier_account_id);
      const { run } = await createRun(
        db,
        business_id,
        { list_id, carrier_account_id },
        { actor, limits, idempotency_key: `k${Math.floor(performance.now() * 1_000)}` },
      );
      await pauseRun(db, business_id, run.run_id as RunId, 'drain', actor);
      await resumeRun(db, business_id, run.run_id as RunId, limits, actor);
      await stopRun(db, business_id, run.run_id as RunId, 'hang_up', actor);
    },
  },
  {
    name: 'follow up',
    run: ({ db, big, limits }) =>
      createRun(db, big.business_id, { from_run: { run_id: big.ended, outcomes: ['busy'] } }, { actor, limits }),
  },
];

/** Lets another worker take the run, whoever had it, and puts one job under review. */
export async function freeRun(fixture: Fixture, { business_id, run_id, ended }: Big): Promise<void> {
  await fixture.rows(
    'UPDATE carillon.outbound_call_runs SET locked_by_worker = NULL, lock_ts = NULL WHERE business_id = $1 AND run_id = $2',
    [business_id, run_id],
  );
  await fixture.rows('DELETE FROM carillon.workers');
  await fixture.rows('UPDATE carillon.lanes SET tat_us = 0 WHERE business_id = $1', [business_id]);
  const [job] = await fixture.rows<{ seq: number }>(
    `UPDATE carillon.outbound_call_jobs SET status = 'needs_review' WHERE business_id = $1 AND run_id = $2 AND seq =
       (SELECT min(seq) FROM carillon.outbound_call_jobs WHERE business_id = $1 AND run_id = $2 AND status = 'failed')
     RETURNING seq`,
    [business_id, ended],
  );
  if (job)
    await fixture.rows(
      'UPDATE carillon.outbound_call_runs SET failed = failed - 1, needs_review = needs_review + 1 WHERE run_id = $1',
      [ended],
    );
}
