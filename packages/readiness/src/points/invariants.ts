import type { ReadinessResult } from '@carillon/contract';
import { audit, type AuditReport, INVARIANTS, type Violation } from '@carillon/auditor';
import { chooseLiveRuns, discoveryUrl, type RunToCount } from '@carillon/engine';
import { type Check, isOver } from '../options.ts';
import type { Finding } from '../prove.ts';

/** The auditor reads every job and attempt; a whole installation is for "carillon audit". */
const AUDITED = { runs_max: 20, jobs_max: 100_000 } as const;
const SAID = 3;
const LISTED = 20;
const COUNTERS = 3;

/**
 * The auditor, which shares no code with the engine, recomputes the invariants of the canaries and of the newest runs at
 * work. `cursor` has told of counters that are wrong; they are not told twice.
 */
export async function proveInvariants(
  check: Check,
  canaries: readonly RunToCount[],
  cursor: ReadinessResult,
): Promise<Finding> {
  const { chosen, left_out } = await chooseLiveRuns(check.db, AUDITED);
  const runs = [...canaries, ...chosen];
  const violations: Violation[] = [];
  const unjudged: string[] = [];
  const audited = { runs: 0, jobs: 0, attempts: 0 };
  for (const run of runs) {
    if (isOver(check)) break;
    const report = await auditRun(check, run);
    violations.push(...report.violations.filter((violation) => !isTold(violation, cursor)));
    unjudged.push(...report.incomplete.map(({ what }) => what));
    audited.runs++;
    audited.jobs += report.checked.jobs;
    audited.attempts += report.checked.attempts;
  }
  const unfinished = runs.length - audited.runs;
  const evidence = {
    ...audited,
    runs_left_out: left_out + unfinished,
    invariants: INVARIANTS,
    unjudged: unjudged.slice(0, LISTED),
    violations: violations.slice(0, LISTED),
  };
  if (violations.length > 0) {
    const said = violations.slice(0, SAID).map(({ invariant, what }) => `${what} (invariant ${invariant})`);
    const more = violations.length > SAID ? `; and ${violations.length - SAID} more` : '';
    return { ok: false, sentence: `${said.join('; ')}${more}`, evidence };
  }
  if (unfinished > 0) return { ok: false, sentence: `Runs that could not be audited in time: ${unfinished}`, evidence };
  const bounded = left_out > 0 ? `; left out, "carillon audit" reads them all: ${left_out}` : '';
  const sentence = `The invariants hold: runs ${audited.runs}, jobs ${audited.jobs}, attempts ${audited.attempts}${bounded}`;
  return { ok: true, warning: unjudged.length > 0, sentence, evidence };
}

async function auditRun({ app_url, limits }: Check, { business_id, run_id }: RunToCount): Promise<AuditReport> {
  return await audit({ app_url, discovery_url: discoveryUrl(app_url), limits, business_id, run_id });
}

function isTold({ invariant, run_id }: Violation, cursor: ReadinessResult): boolean {
  const { differing } = cursor.evidence;
  if (invariant !== COUNTERS || cursor.ok || !Array.isArray(differing)) return false;
  return differing.some((run: { run_id: number }) => run.run_id === run_id);
}
