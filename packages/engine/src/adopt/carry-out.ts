import type { BusinessId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import { type Database, inBusiness } from '../db/database.ts';
import { accountForRuns, replaceStandIn } from './account.ts';
import {
  type AdoptingBusiness,
  beginAdoption,
  type BusinessOptions,
  FIRST_CURSOR,
  findAdoptions,
  readAdoption,
} from './businesses.ts';
import { moveSequencePast } from './ids.ts';
import type { JudgedJob } from './judge.ts';
import type { AdoptLimits } from './limits.ts';
import { hasRunsToMake, makeNextRun } from './make-run.ts';
import type { OldRun } from './old-rows.ts';
import { noteRuns } from './runs.ts';
import { describeShape } from './shape.ts';
import type { Source } from './source.ts';
import { stageBatch } from './stage.ts';

export interface AdoptContext extends BusinessOptions {
  db: Database;
  source: Source;
  /** The account of the runs of a business that has several. */
  carrier_account_id?: number | undefined;
  answer?: { say: string; language: string } | undefined;
  /** In which zone the old database's times without one are. */
  time_zone: string;
  limits: AdoptLimits;
  actor: Actor;
}

/** What is done with the old rows as they are read: carried out, or only rehearsed. */
export interface Sink {
  /** The business here of an old one; made where there is none. */
  business(old_business: string): Promise<AdoptingBusiness>;
  /** Behind which old job the reading begins: those before it are read, of every business. */
  from(): number;
  runs(business: AdoptingBusiness, runs: readonly OldRun[]): Promise<void>;
  /** `to`: the last old id of the page that these jobs are of. */
  jobs(business: AdoptingBusiness, batch: readonly JudgedJob[], to: number): Promise<void>;
  /** Makes the runs, and tells of each, and of whatever else is new. `to`: the last old id of all. Returns every business of the source. */
  finish(to: number | null, onNews: (made?: 'run') => void): Promise<AdoptingBusiness[]>;
}

/** Takes the old rows over. Broken off anywhere and begun again, it goes on where it was. */
export async function carryOut(context: AdoptContext): Promise<Sink> {
  const { db, source, limits } = context;
  const businesses = new Map<string, AdoptingBusiness>();
  for (const [old_business, business_id] of await findAdoptions(db, source.key))
    businesses.set(old_business, await readAdoption(db, business_id, old_business, source.key, context));
  let moved = false;
  /** Once, and only if there is something to take over: nobody is given an id from now on that an old row keeps. */
  const moveSequences = async () => {
    if (moved) return;
    await moveSequencePast(db, 'outbound_call_runs', source.greatest.run_id);
    await moveSequencePast(db, 'leads', source.greatest.lead_id);
    moved = true;
  };
  return {
    async business(old_business) {
      const known = businesses.get(old_business);
      if (known) return known;
      const begun = await beginAdoption(db, source.key, old_business, { ...context, kept_id: limits.adopt_kept_id });
      businesses.set(old_business, begun);
      return begun;
    },
    from: () => firstUnread(businesses.values()),
    async runs(business, runs) {
      await moveSequences();
      await noteRuns(db, ...idsOf(business), runs, limits.adopt_kept_id);
    },
    async jobs(business, batch, to) {
      await moveSequences();
      const [business_id, adoption_id] = idsOf(business);
      const { jobsById } = source;
      await stageBatch({ ...context, business_id, adoption_id, jobsById }, batch, business.jobs_cursor, to);
      business.jobs_cursor = to;
    },
    async finish(to, onNews) {
      const all = [...businesses.values()];
      for (const business of all) await finishBusiness(context, business, to, onNews);
      return await Promise.all(
        all.map((business) => readAdoption(db, idsOf(business)[0], business.old_business, source.key, context)),
      );
    },
  };
}

export function firstUnread(businesses: Iterable<AdoptingBusiness>): number {
  const cursors = [...businesses].map((business) => business.jobs_cursor);
  return cursors.length === 0 ? FIRST_CURSOR : Math.min(...cursors);
}

function idsOf({ business_id, adoption_id }: AdoptingBusiness): [BusinessId, number] {
  if (business_id === null || adoption_id === null) throw new Error('an adoption has not begun');
  return [business_id, adoption_id];
}

async function finishBusiness(
  context: AdoptContext,
  business: AdoptingBusiness,
  to: number | null,
  onNews: (made?: 'run') => void,
): Promise<void> {
  const { db, actor, source } = context;
  const [business_id, adoption_id] = idsOf(business);
  const wanted = context.carrier_account_id;
  if ((await replaceStandIn(db, business_id, wanted, actor)) > 0) onNews();
  if (await hasRunsToMake(db, business_id, adoption_id)) {
    const account = await accountForRuns(db, business_id, wanted, actor);
    const shape = source.shape.runs;
    while (await makeNextRun({ ...context, business_id, adoption_id, account, shape })) onNews('run');
  }
  // Nothing is written where nothing is new.
  await inBusiness(db, business_id, async (tx) => {
    const ended = await tx.query<{ tally: object }>(
      `UPDATE carillon.adoptions SET jobs_cursor = greatest(jobs_cursor, $3), ended_at = now(),
         report = $4::jsonb || jsonb_build_object('counts', tally)
       WHERE business_id = $1 AND adoption_id = $2
         AND (ended_at IS NULL OR report->'counts' IS DISTINCT FROM tally OR jobs_cursor < $3)
       RETURNING tally`,
      [business_id, adoption_id, to ?? business.jobs_cursor, JSON.stringify(describeShape(source.shape))],
    );
    for (const { tally } of ended)
      trail(tx, actor, {
        action: 'adoption.finished',
        subject: { type: 'business', id: business_id },
        after: { adoption_id, ...tally },
      });
  });
}
