import { CarillonError } from '@carillon/contract';
import type pg from 'pg';
import { countRuns, findBusinesses } from './businesses.ts';
import { type CarrierAccess, checkCarrier, createCandidates } from './carrier-check.ts';
import { judgeRuns, type RunScope } from './judge-runs.ts';
import { lanesAndRates, readLanes } from './invariants/lanes.ts';
import { numbersTwice } from './invariants/one-call.ts';
import { callsTwice } from './invariants/placed-calls.ts';
import { readWorkers } from './invariants/run-ends.ts';
import { LedgerError, readLedger } from './ledger.ts';
import { checkAgain, checkLedger } from './ledger-check.ts';
import { connect, inSnapshot, type Snapshot } from './snapshot.ts';
import { type AuditLimits, type AuditReport, createFindings, type Findings, type Violation } from './types.ts';

export interface AuditOptions {
  /** The application's own login: the auditor reads behind the same wall. */
  app_url: string;
  /** The login that may see which businesses have runs, and little else. */
  discovery_url: string;
  limits: AuditLimits;
  /** One business; everybody's when left out. */
  business_id?: number | undefined;
  /** One run; without a business it is looked for. */
  run_id?: number | undefined;
  /** The simulated carrier's address, or a file with its ledger. */
  ledger?: string | undefined;
  /** Left out, no carrier is asked. */
  carrier?: CarrierAccess | undefined;
}

/**
 * Recomputes the invariants from the rows, business by business, each in one snapshot, and compares them with what the
 * carriers say. Writes nothing, holds no lock, and may run at any time on a live installation.
 *
 * Throws `run_not_found` and `business_not_found`, and the driver's error when something can't be read: what can't be
 * seen is never taken to be in order.
 */
export async function audit(options: AuditOptions): Promise<AuditReport> {
  const findings = createFindings();
  const app = await connect(options.app_url);
  try {
    const { runs, known, runs_to_hold } = await findBusinesses(options.discovery_url, options);
    for (const [business_id, runs_seen] of runs)
      await auditBusiness(app, { business_id, runs_seen, known, runs_to_hold, options, findings });
    return findings.report();
  } finally {
    await app.end().catch(() => {});
  }
}

interface Scope {
  business_id: number;
  runs_seen: number;
  known: ReadonlySet<number>;
  runs_to_hold: number;
  options: AuditOptions;
  findings: Findings;
}

async function auditBusiness(app: pg.Client, scope: Scope): Promise<void> {
  const { business_id, options, findings } = scope;
  const candidates = options.carrier ? createCandidates(options.carrier.numbers_most) : null;
  const seen = await inSnapshot(app, business_id, async (snapshot) => {
    if (await isLeftOut(scope, await readKind(snapshot))) return null;
    const lanes = await readLanes(snapshot);
    const blurred = await readSetBack(snapshot);
    const isBlurred = (us: number) => blurred !== null && us >= blurred.from_us && us <= blurred.to_us;
    const runs: RunScope = {
      snapshot,
      findings,
      lanes,
      limits: options.limits,
      run_id: options.run_id ?? null,
      trail_since_us: await readTrailBeginning(snapshot),
      workers: await readWorkers(snapshot, options.limits, scope.runs_to_hold),
      isBlurred,
      placed: options.ledger === undefined ? null : new Map(),
      candidates,
    };
    const judged = await judgeRuns(runs);
    if (judged.runs < scope.runs_seen) throw hidden(scope, judged.runs);
    findings.checked.businesses += 1;
    if (blurred) tellBlurred(scope, blurred);
    const run_ids = options.run_id === undefined ? null : await readContemporaries(snapshot, options.run_id);
    const concurrency = await readConcurrency(snapshot, run_ids);
    if (options.run_id === undefined) await report(findings, numbersTwice(snapshot));
    await report(findings, callsTwice(snapshot, run_ids));
    const lane_rules = { concurrency, run_ids, limits: options.limits, isBlurred };
    await report(findings, lanesAndRates(snapshot, lanes, lane_rules));
    const later = await compareWithLedger(scope, runs);
    return { lanes, now_us: snapshot.now_us, later };
  });
  if (!seen) return;
  if (seen.later.length > 0)
    await inSnapshot(app, business_id, (snapshot) => checkAgain(snapshot, seen.later, findings));
  if (options.carrier && candidates)
    await checkCarrier(
      {
        business_id,
        lanes: seen.lanes,
        now_us: seen.now_us,
        findings,
        access: options.carrier,
        again: (work) => inSnapshot(app, business_id, work),
      },
      candidates,
    );
}

async function report(findings: Findings, found: AsyncIterable<Violation>): Promise<void> {
  for await (const violation of found) findings.violation(violation);
}

type Kind = 'ordinary' | 'canary' | 'absent';

async function readKind(snapshot: Snapshot): Promise<Kind> {
  const [row] = await snapshot.query<{ canary: boolean }>(
    'SELECT canary FROM carillon.businesses WHERE business_id = $1',
    [snapshot.business_id],
  );
  if (!row) return 'absent';
  return row.canary ? 'canary' : 'ordinary';
}

/**
 * The businesses that a readiness check makes for itself and wrecks on purpose are no part of the whole; one that it
 * has removed by now neither. Any other that is not there is hidden, or was never.
 */
async function isLeftOut(scope: Scope, kind: Kind): Promise<boolean> {
  const { options, business_id, runs_seen } = scope;
  if (options.business_id === undefined && kind === 'canary') return true;
  if (kind !== 'absent') return false;
  if (runs_seen === 0) throw new CarillonError('business_not_found');
  if ((await countRuns(options.discovery_url, business_id)) > 0) throw hidden(scope, 0);
  return true;
}

/** A login that sees less than there is would find everything in order. */
function hidden({ business_id, runs_seen }: Scope, runs: number): Error {
  return new Error(
    `Business ${business_id} has ${runs_seen} runs to audit, and the application's login sees ${runs}: what it does not see can't be judged`,
  );
}

async function compareWithLedger(scope: Scope, { snapshot, lanes, placed, findings }: RunScope) {
  const { options, known, business_id } = scope;
  if (options.ledger === undefined || placed === null) return [];
  try {
    const of = { snapshot, lanes, known, run_id: options.run_id ?? null, findings };
    return await checkLedger(of, readLedger(options.ledger), { byRun: placed });
  } catch (error) {
    if (!(error instanceof LedgerError)) throw error;
    findings.incomplete({
      invariant: 2,
      business_id,
      what: `The carrier's ledger could not be compared: ${error.message}`,
    });
    return [];
  }
}

const TRAIL = `
  SELECT (extract(epoch FROM applied_at) * 1000000)::bigint AS since_us FROM carillon.schema_migrations
  WHERE version = $1`;
/** The migration that made the table of the trail. */
const TRAIL_VERSION = 6;

async function readTrailBeginning(snapshot: Snapshot): Promise<number> {
  const [row] = await snapshot.query<{ since_us: number }>(TRAIL, [TRAIL_VERSION]);
  return row?.since_us ?? 0;
}

interface SetBack {
  from_us: number;
  to_us: number;
}

/** Between two events of which the later one has the earlier time, some clock was set back; a second is none. */
const SET_BACK = `
  SELECT min(at_us) AS from_us, max(latest_us) AS to_us
  FROM (SELECT at_us, max(at_us) OVER (ORDER BY event_id) AS latest_us
        FROM (SELECT event_id, (extract(epoch FROM at) * 1000000)::bigint AS at_us FROM carillon.audit_events
              WHERE business_id = $1) times) events
  WHERE latest_us - at_us > 1000000`;

async function readSetBack(snapshot: Snapshot): Promise<SetBack | null> {
  const [row] = await snapshot.query<{ from_us: number | null; to_us: number | null }>(SET_BACK, [
    snapshot.business_id,
  ]);
  return row && row.from_us !== null && row.to_us !== null ? { from_us: row.from_us, to_us: row.to_us } : null;
}

function tellBlurred({ business_id, findings }: Scope, { from_us, to_us }: SetBack): void {
  const seconds = ((to_us - from_us) / 1_000_000).toFixed(1);
  for (const invariant of [4, 5] as const)
    findings.incomplete({
      invariant,
      business_id,
      what: `The database's clock was set back: ${seconds} s are on record twice, and attempts in them can't be ordered by time`,
    });
}

/** Runs that may have shared lines with this one. */
const CONTEMPORARIES = `
  SELECT o.run_id FROM carillon.outbound_call_runs r JOIN carillon.outbound_call_runs o ON o.business_id = $1
  WHERE r.business_id = $1 AND r.run_id = $2
    AND o.created_at <= coalesce(r.ended_at, 'infinity') AND coalesce(o.ended_at, 'infinity') >= r.created_at
  ORDER BY o.run_id`;

async function readContemporaries(snapshot: Snapshot, run_id: number): Promise<number[]> {
  const rows = await snapshot.query<{ run_id: number }>(CONTEMPORARIES, [snapshot.business_id, run_id]);
  return rows.map((row) => row.run_id);
}

const CONCURRENCY = `
  SELECT run_id, concurrency FROM carillon.outbound_call_runs
  WHERE business_id = $1 AND ($2::bigint[] IS NULL OR run_id = ANY ($2))`;

async function readConcurrency(snapshot: Snapshot, run_ids: readonly number[] | null): Promise<Map<number, number>> {
  const rows = await snapshot.query<{ run_id: number; concurrency: number }>(CONCURRENCY, [
    snapshot.business_id,
    run_ids,
  ]);
  return new Map(rows.map((row) => [row.run_id, row.concurrency]));
}

export const AUDIT_STATEMENTS = { TRAIL, SET_BACK, CONTEMPORARIES, CONCURRENCY };
