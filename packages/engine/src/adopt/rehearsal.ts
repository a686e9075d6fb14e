import { parseCountry } from '../business/country.ts';
import { type Database, inBusiness } from '../db/database.ts';
import { findAccount } from './account.ts';
import { type AdoptingBusiness, FIRST_CURSOR, findAdoptions, mappedBusiness, readAdoption } from './businesses.ts';
import { type AdoptContext, firstUnread, type Sink } from './carry-out.ts';
import { concludeRun, noJobs } from './conclude.ts';
import { decide, type Kept, type Known, type OpenRun } from './decide.ts';
import type { JudgedJob, TakenStatus } from './judge.ts';
import { readStored, type Stored } from './known.ts';
import { tally } from './make-run.ts';
import type { OldRun } from './old-rows.ts';
import { numberRun, readMetRuns, takenRunIds } from './runs.ts';
import { emptyTally } from './tally.ts';

/** What a rehearsal keeps in memory of one business: less than a kilobyte for each job. */
interface Memory {
  runs: Map<number, RehearsedRun>;
  /** The numbers of leads that would have been made, as integers. */
  phones: Set<number>;
  met: Set<number>;
}

interface RehearsedRun extends OpenRun {
  old: OldRun;
  kept: Map<number, Kept>;
  became: Record<TakenStatus, number>;
}

const asInteger = (phone: string) => Number(phone.slice(1));

/**
 * Goes through all of it and writes nothing: what the database would know is kept in memory, and decided upon by the
 * same functions. Its counts are therefore those of the adoption itself, also of one that was broken off.
 */
export async function rehearse(context: AdoptContext): Promise<Sink> {
  const { db, source, limits } = context;
  const businesses = new Map<string, AdoptingBusiness>();
  const memories = new Map<AdoptingBusiness, Memory>();
  const add = (business: AdoptingBusiness) => {
    businesses.set(business.old_business, business);
    memories.set(business, { runs: new Map(), phones: new Set(), met: new Set() });
    return business;
  };
  for (const [old_business, business_id] of await findAdoptions(db, source.key))
    add(await readAdoption(db, business_id, old_business, source.key, context));
  const memoryOf = (business: AdoptingBusiness) =>
    memories.get(business) ?? { runs: new Map(), phones: new Set(), met: new Set() };
  return {
    async business(old_business) {
      const known = businesses.get(old_business);
      if (known) return known;
      const mapped = mappedBusiness(context, old_business);
      return add(
        mapped === null
          ? unmadeBusiness(old_business, context.country)
          : await readAdoption(db, mapped, old_business, source.key, context),
      );
    },
    from: () => firstUnread(businesses.values()),
    runs: (business, runs) => rehearseRuns(context, business, memoryOf(business), runs),
    async jobs(business, batch) {
      const memory = memoryOf(business);
      const known = remember(memory, await readKnown(db, business, batch));
      const decision = decide(batch, known, business.tally, limits);
      for (const lead of decision.leads) memory.phones.add(asInteger(lead.phone));
      for (const row of decision.mappings) memory.met.add(row.old_lead_id);
      for (const row of decision.archived) if (row.kind === 'lead') memory.met.add(row.old_id);
      for (const { job, ...kept } of [...decision.added, ...decision.replaced]) {
        const run = memory.runs.get(job.run_id);
        if (!run) continue;
        const before = known.kept(job.run_id, job.phone);
        if (before) run.became[before.status]--;
        run.became[kept.status]++;
        run.kept.set(asInteger(job.phone), kept);
        run.jobs = Math.max(run.jobs, kept.seq);
      }
    },
    async finish() {
      for (const business of businesses.values()) {
        const { business_id } = business;
        const unmade = [...memoryOf(business).runs.values()].filter((run) => !run.made);
        if (business_id !== null && unmade.length > 0)
          await inBusiness(db, business_id, (tx) => findAccount(tx, context.carrier_account_id));
        for (const { old, became } of unmade)
          tally(business.tally, old, became, concludeRun(old, became), limits.adopt_samples_ids);
      }
      return [...businesses.values()];
    },
  };
}

/** A business that the adoption would make. */
function unmadeBusiness(old_business: string, country: string | undefined): AdoptingBusiness {
  return {
    old_business,
    business_id: null,
    adoption_id: null,
    made: true,
    country: parseCountry(country ?? 'IL'),
    jobs_cursor: FIRST_CURSOR,
    tally: emptyTally(),
  };
}

async function rehearseRuns(
  { db, limits }: AdoptContext,
  { business_id, adoption_id, tally: counts }: AdoptingBusiness,
  memory: Memory,
  runs: readonly OldRun[],
): Promise<void> {
  const elsewhere = await takenRunIds(db, runs);
  const { met, given } =
    business_id === null
      ? { met: [], given: [] }
      : await inBusiness(db, business_id, (tx) => readMetRuns(tx, adoption_id, runs));
  const taken = new Set([...elsewhere, ...given]);
  const known = new Map(met.map((run) => [run.old_run_id, run]));
  const sorted = business_id === null ? new Map() : await countSorted(db, business_id, met);
  for (const run of runs) {
    const begun = known.get(run.id);
    if (!begun) numberRun(run, taken, counts, limits.adopt_kept_id);
    memory.runs.set(run.id, {
      old: { ...run, text: '' },
      jobs: begun?.jobs ?? 0,
      made: begun?.made ?? false,
      kept: new Map(),
      became: sorted.get(begun?.run_id ?? 0) ?? noJobs(),
    });
  }
}

/** Of runs that an adoption has begun to sort: how many of their jobs are in each state so far. */
async function countSorted(
  db: Database,
  business_id: NonNullable<AdoptingBusiness['business_id']>,
  met: readonly { run_id: number; made: boolean }[],
): Promise<Map<number, Record<TakenStatus, number>>> {
  const unmade_ids = met.filter((run) => !run.made).map((run) => run.run_id);
  const rows = await inBusiness(db, business_id, (tx) =>
    tx.query<{ run_id: number; status: TakenStatus; n: number }>(
      `SELECT run_id, status, count(*) AS n FROM carillon.adopted_jobs
       WHERE business_id = $1 AND run_id = ANY ($2) GROUP BY run_id, status`,
      [business_id, unmade_ids],
    ),
  );
  const counts = new Map<number, Record<TakenStatus, number>>();
  for (const row of rows) counts.set(row.run_id, { ...(counts.get(row.run_id) ?? noJobs()), [row.status]: row.n });
  return counts;
}

async function readKnown(
  db: Database,
  business: AdoptingBusiness,
  batch: readonly JudgedJob[],
): Promise<Stored | null> {
  const { business_id, adoption_id } = business;
  return business_id === null ? null : await inBusiness(db, business_id, (tx) => readStored(tx, adoption_id, batch));
}

/** What is remembered goes before what the database has. */
function remember(memory: Memory, stored: Stored | null): Known {
  return {
    run: (old_run_id) => memory.runs.get(old_run_id),
    kept: (old_run_id, phone) =>
      memory.runs.get(old_run_id)?.kept.get(asInteger(phone)) ?? stored?.kept(old_run_id, phone),
    hasPhone: (phone) => memory.phones.has(asInteger(phone)) || (stored?.hasPhone(phone) ?? false),
    hasMet: (old_lead_id) => memory.met.has(old_lead_id) || (stored?.hasMet(old_lead_id) ?? false),
    isTaken: (lead_id) => stored?.isTaken(lead_id) ?? false,
  };
}
