import type { BusinessId } from '@carillon/contract';
import { chooseLiveRuns, chooseRuns, type Database, type Recount, recountRun, type RunToCount } from '@carillon/engine';
import { BOUNDS, type Check, isOver } from '../options.ts';
import type { Finding } from '../prove.ts';

const SAID = 3;

/** Of the runs at work and the canaries': counters and cursor are what a recount of the rows gives. */
export async function proveCursor(check: Check, canaries: readonly RunToCount[]): Promise<Finding> {
  const { chosen, left_out } = await chooseLiveRuns(check.db, BOUNDS);
  return await recountAll(check, [...canaries, ...chosen], left_out);
}

/** The same of one business, its newest runs in whatever state. */
export async function proveOwnCursors(check: Check, business_id: BusinessId): Promise<Finding> {
  const { chosen, left_out } = await chooseRuns(check.db, business_id, BOUNDS);
  return await recountAll(check, chosen, left_out);
}

async function recountAll(check: Check, runs: readonly RunToCount[], left_out: number): Promise<Finding> {
  const differing: Recount[] = [];
  const counted = { runs: 0, jobs: 0 };
  let unfinished = 0;
  for (const run of runs) {
    if (isOver(check)) {
      unfinished++;
      continue;
    }
    const seen = await recount(check.db, run);
    if (!seen) continue;
    counted.runs++;
    counted.jobs += run.total_leads;
    if (Object.keys(seen.differing).length > 0) differing.push(seen);
  }
  const evidence = {
    runs_counted: counted.runs,
    jobs_counted: counted.jobs,
    runs_left_out: left_out + unfinished,
    differing,
  };
  if (differing.length > 0) {
    const said = differing.slice(0, SAID).map((run) => `run ${run.run_id} (${inWords(run)})`);
    return { ok: false, sentence: `Counters differ from the rows that they count: ${said.join('; ')}`, evidence };
  }
  if (unfinished > 0) return { ok: false, sentence: `Runs that could not be counted in time: ${unfinished}`, evidence };
  const bounded = left_out > 0 ? `; left out, to keep this short: ${left_out}` : '';
  return {
    ok: true,
    sentence: `Cursor and counters equal a recount of the rows: runs ${counted.runs}, jobs ${counted.jobs}${bounded}`,
    evidence,
  };
}

async function recount(db: Database, { business_id, run_id }: RunToCount): Promise<Recount | null> {
  return await recountRun(db, business_id, run_id);
}

function inWords({ differing }: Recount): string {
  return Object.entries(differing)
    .map(([name, { kept, counted }]) => `${name} ${kept}, counted ${counted}`)
    .join(', ');
}
