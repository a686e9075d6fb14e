import { CarillonError } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { parseCountry } from '../business/country.ts';
import { isTimeZone } from '../business/time-zone.ts';
import type { Database } from '../db/database.ts';
import {
  type AdoptingBusiness,
  type BusinessOptions,
  FIRST_CURSOR,
  refuseMissingAccount,
  refuseMissingBusinesses,
} from './businesses.ts';
import { type AdoptContext, carryOut, type Sink } from './carry-out.ts';
import { AdoptError } from './errors.ts';
import { businessOf, type JudgedJob, judgeJob } from './judge.ts';
import { type AdoptLimits, defaultAdoptLimits } from './limits.ts';
import { holdAdoptionLock } from './lock.ts';
import { type OldLead, type OldRow, type OldRun, readOldJob, readOldLead, readOldRun } from './old-rows.ts';
import { rehearse } from './rehearsal.ts';
import { type AdoptReport, makeReport } from './report.ts';
import { openSource, type Source } from './source.ts';

export interface AdoptOptions extends BusinessOptions {
  /** postgres://… of the older installation. Only read. */
  from: string;
  /** Where its tables are; public when left out. */
  schema?: string | undefined;
  /** Says what would happen, and writes nothing. */
  dry_run?: boolean;
  /** The application's own URL, for the lock that lets one adoption in at a time. */
  app_url: string;
  /** The account of the runs of a business that has several. */
  carrier_account_id?: number | undefined;
  /** What answers the calls of runs that go on; the business's greeting when left out. */
  answer?: { say: string; language: string } | undefined;
  /** IANA: of times that are written without a zone. UTC when left out. */
  time_zone?: string | undefined;
  actor: Actor;
  limits?: Partial<AdoptLimits>;
  /** Ends it after the batch that is under way; adopt again to go on. */
  stop?: AbortSignal;
  onProgress?: (progress: AdoptProgress) => void;
}

export interface AdoptProgress {
  doing: 'runs' | 'jobs' | 'making';
  done: number;
  /** Of `runs` or `jobs`. */
  total: number;
}

/**
 * Takes over an older installation's outbound_call_runs and outbound_call_jobs. One operation that can be broken off
 * anywhere and begun again, and that changes nothing the second time. The old tables are only read.
 *
 * A run comes over whole or not at all, and paused where it was not finished; who was called already, or may have been,
 * is never called again by itself. What is not taken over is kept in the archive, with the reason.
 *
 * Throws AdoptError; `invalid_request` for a country or a time zone that is none.
 */
export async function adopt(db: Database, options: AdoptOptions): Promise<AdoptReport> {
  const { dry_run = false, time_zone = 'UTC' } = options;
  if (!isTimeZone(time_zone))
    throw new CarillonError('invalid_request', { problem: `"${time_zone}" is no time zone; give one such as UTC` });
  if (options.country !== undefined) parseCountry(options.country);
  const limits = { ...defaultAdoptLimits, ...options.limits };
  await refuseMissingBusinesses(db, options);
  await refuseMissingAccount(db, options.carrier_account_id);
  await using cleanup = new AsyncDisposableStack();
  if (!dry_run) cleanup.defer(await holdAdoptionLock(options.app_url));
  const source = await openSource(options.from, options.schema ?? 'public', limits.adopt_kept_id);
  cleanup.defer(() => source.close());
  const context: AdoptContext = { ...options, db, source, time_zone, limits };
  const sink = dry_run ? await rehearse(context) : await carryOut(context);
  const news = { any: false };
  const live = await walkRuns(context, sink, options);
  const last = await walkJobs(context, sink, options, news);
  let made = 0;
  const businesses = await sink.finish(last, (kind) => {
    news.any = true;
    if (kind === 'run') options.onProgress?.({ doing: 'making', done: ++made, total: source.counts.runs });
  });
  return makeReport(source, businesses, {
    dry_run,
    nothing_new: !dry_run && !news.any,
    assumed: [`times without a zone are those of ${time_zone}`],
    warnings: warningsOf(live, businesses),
    samples_ids: limits.adopt_samples_ids,
  });
}

interface Watcher {
  stop?: AbortSignal | undefined;
  onProgress?: ((progress: AdoptProgress) => void) | undefined;
}

function refuseToGoOn({ stop }: Watcher): void {
  if (stop?.aborted)
    throw new AdoptError('adopt_stopped', 'The adoption was stopped; adopt again and it goes on where it was');
}

/** Notes every run. Returns the old runs that somebody is still at work on. */
async function walkRuns({ source, limits }: AdoptContext, sink: Sink, watcher: Watcher): Promise<number[]> {
  const now_ms = Date.parse(source.now);
  const live: number[] = [];
  let done = 0;
  for (let after = FIRST_CURSOR; ; ) {
    refuseToGoOn(watcher);
    const rows = await source.runsAfter(after, limits.adopt_batch_rows);
    const runs = rows.map((row) => readOldRun(row, source.shape.runs));
    for (const [old_business, own] of Map.groupBy(runs, (run) => run.business))
      await sink.runs(await sink.business(old_business), own);
    for (const run of runs)
      if (run.lock_ts !== null && now_ms - Date.parse(run.lock_ts) < limits.adopt_live_lock_ms) live.push(run.id);
    watcher.onProgress?.({ doing: 'runs', done: (done += rows.length), total: source.counts.runs });
    const last = rows.at(-1);
    if (!last) return live;
    after = last.id;
  }
}

/** Sorts every job that was not read yet. Returns the last old id, null where there are none. */
async function walkJobs(
  { source, limits }: AdoptContext,
  sink: Sink,
  watcher: Watcher,
  news: { any: boolean },
): Promise<number | null> {
  let last: number | null = null;
  let done = 0;
  for (let after = sink.from(); ; ) {
    refuseToGoOn(watcher);
    const rows = await source.jobsAfter(after, limits.adopt_batch_rows);
    const end = rows.at(-1);
    if (!end) return last;
    for (const [old_business, batch] of await judgePage(source, sink, rows)) {
      const business = await sink.business(old_business);
      const unread = batch.filter((job) => job.id > business.jobs_cursor);
      if (unread.length === 0) continue;
      news.any = true;
      await sink.jobs(business, unread, end.id);
    }
    watcher.onProgress?.({ doing: 'jobs', done: (done += rows.length), total: source.counts.jobs });
    after = last = end.id;
  }
}

/** A page's jobs, judged, by the old business to which each belongs. */
async function judgePage(source: Source, sink: Sink, rows: readonly OldRow[]): Promise<Map<string, JudgedJob[]>> {
  const { shape } = source;
  const jobs = rows.map((row) => readOldJob(row, shape.jobs));
  const runs = await readRuns(
    source,
    jobs.flatMap((job) => job.run_id ?? []),
  );
  const leads = await readLeads(
    source,
    jobs.flatMap((job) => job.lead_id ?? []),
  );
  const judged = new Map<string, JudgedJob[]>();
  for (const job of jobs) {
    const run = job.run_id === null ? undefined : runs.get(job.run_id);
    const lead = job.lead_id === null ? undefined : leads.get(job.lead_id);
    const old_business = businessOf(job, run, lead);
    const { country } = await sink.business(old_business);
    const verdict = judgeJob(job, run, lead, { has_leads: shape.leads !== null, country });
    const batch = judged.get(old_business);
    if (batch) batch.push(verdict);
    else judged.set(old_business, [verdict]);
  }
  return judged;
}

async function readRuns(source: Source, ids: readonly number[]): Promise<Map<number, OldRun>> {
  const rows = await source.runsById([...new Set(ids)]);
  return new Map(rows.map((row) => [row.id, readOldRun(row, source.shape.runs)]));
}

async function readLeads(source: Source, ids: readonly number[]): Promise<Map<number, OldLead>> {
  const shape = source.shape.leads;
  if (shape === null) return new Map();
  const rows = await source.leadsById([...new Set(ids)]);
  return new Map(rows.map((row) => [row.id, readOldLead(row, shape)]));
}

function warningsOf(live: readonly number[], businesses: readonly AdoptingBusiness[]): string[] {
  const warnings: string[] = [];
  if (live.length > 0)
    warnings.push(
      `The old system is still at work on ${live.length === 1 ? 'run' : 'runs'} ${live.slice(0, 10).join(', ')}: stop its workers, or both will call the same leads`,
    );
  const made = businesses.filter((business) => business.made);
  if (made.length > 0)
    warnings.push(
      `${made.length === 1 ? 'A business is' : `${made.length} businesses are`} made for it, without keys and carrier accounts: create both, and adopt again; its runs then get the account`,
    );
  return warnings;
}
