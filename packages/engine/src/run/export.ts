import type { BusinessId, Language, RunId, RunStatus } from '@carillon/contract';
import { CarillonError, effectiveJobStatus, formatJobId } from '@carillon/contract';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { csvSafeLine } from '../lead/csv-safe.ts';
import { isoMicroseconds, readAttempts, viewAttempt } from './attempts.ts';
import { COLUMNS, headerOf } from './export-columns.ts';
import type { ExportLine, JobLine } from './export-line.ts';

export interface ExportOptions {
  language: Language;
  /** A line for each lead, with its last attempt; or one for each attempt, and one for a lead without any. */
  rows: 'leads' | 'attempts';
}

const PAGE_JOBS = 1_000;
const KEYS_PAGE_JOBS = 5_000;
/** As many columns as an import may bring. What there is beyond stands in the last column, as JSON. */
const ATTRIBUTE_COLUMNS_MAX = 200;
/** Without it Excel takes UTF-8 for the machine's old encoding, and Hebrew is lost. */
const BOM = '\uFEFF';

/**
 * A run as CSV, in pieces of some thousand lines: every lead of the run by its number, those too whose jobs are yet to be
 * made. Each page is read in a transaction of its own, so a slow reader holds nothing, and one that goes away stops it;
 * each line is true as of the moment when its page was read. Throws `run_not_found` before the first piece.
 */
export async function* exportRun(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  options: ExportOptions,
): AsyncGenerator<string> {
  const read = <T>(work: (tx: Tx) => Promise<T>) => inBusiness(db, business_id, work);
  const keys = await collectKeys((after) => read((tx) => readKeys(tx, run_id, after)));
  yield BOM + csvSafeLine(headerOf(options.language, keys));
  for (let after = 0; ; ) {
    const page = await read((tx) => readPage(tx, run_id, after));
    if (page.lines.length > 0) yield page.lines.flatMap((line) => writeLines(line, keys, options)).join('');
    if (page.last === null) return;
    after = page.last;
  }
}

interface RunNow {
  status: RunStatus;
  list_id: number | null;
  filled_seq: number;
  total_leads: number;
}

async function readRunNow(tx: Tx, run_id: RunId): Promise<RunNow> {
  const [run] = await tx.query<RunNow>(
    `SELECT status, list_id, filled_seq, total_leads FROM carillon.outbound_call_runs
     WHERE business_id = $1 AND run_id = $2`,
    [tx.business_id, run_id],
  );
  if (!run) throw new CarillonError('run_not_found');
  return run;
}

/**
 * The numbers and leads of a stretch of the run, `$3` exclusive to `$4` inclusive: of jobs, of the list's members that
 * have no job yet, or of the leads that were fixed for a follow-up run.
 */
const OF_JOBS = `SELECT seq, lead_id, status, attempts, last_outcome, reason FROM carillon.outbound_call_jobs
  WHERE business_id = $1 AND run_id = $2 AND seq > $3 AND seq <= $4`;
const UNMADE = `'queued' AS status, 0 AS attempts, NULL AS last_outcome, NULL AS reason`;
const OF_LIST = `SELECT m.position AS seq, m.lead_id, ${UNMADE} FROM carillon.outbound_call_runs r
  JOIN carillon.list_members m ON m.business_id = $1 AND m.list_id = r.list_id AND m.position > $3 AND m.position <= $4
  WHERE r.business_id = $1 AND r.run_id = $2`;
const OF_EARLIER = `SELECT (p.first_seq + l.n - 1)::int AS seq, l.lead_id, ${UNMADE}
  FROM carillon.run_leads p CROSS JOIN LATERAL unnest(p.lead_ids) WITH ORDINALITY AS l (lead_id, n)
  WHERE p.business_id = $1 AND p.run_id = $2 AND p.first_seq > $3 - 10000 AND p.first_seq <= $4
    AND p.first_seq + l.n - 1 > $3 AND p.first_seq + l.n - 1 <= $4`;

/** What a lead's line needs beside its job. Look-ups by key, whatever the planner believes: see docs/adr/0003. */
const LINE = 'SELECT j.*, l.phone, l.name, l.external_id, l.time_zone, l.attributes, s.due_us, s.reason AS waits_for';
const BESIDE = `
  CROSS JOIN LATERAL (SELECT * FROM carillon.leads WHERE business_id = $1 AND lead_id = j.lead_id OFFSET 0) l
  LEFT JOIN LATERAL (
    SELECT due_us, reason FROM carillon.job_schedule
    WHERE business_id = $1 AND run_id = $2 AND seq = j.seq AND j.status = 'waiting' OFFSET 0) s ON true
  ORDER BY j.seq`;
const NAMES = `CROSS JOIN LATERAL (
    SELECT attributes FROM carillon.leads WHERE business_id = $1 AND lead_id = j.lead_id OFFSET 0) l
  CROSS JOIN LATERAL jsonb_object_keys(l.attributes) AS key`;

/** Of each kind of stretch: its lines, and the names of its leads' attributes. */
const STRETCHES = {
  jobs: { lines: `${LINE} FROM (${OF_JOBS}) j ${BESIDE}`, names: `SELECT DISTINCT key FROM (${OF_JOBS}) j ${NAMES}` },
  list: { lines: `${LINE} FROM (${OF_LIST}) j ${BESIDE}`, names: `SELECT DISTINCT key FROM (${OF_LIST}) j ${NAMES}` },
  earlier: {
    lines: `${LINE} FROM (${OF_EARLIER}) j ${BESIDE}`,
    names: `SELECT DISTINCT key FROM (${OF_EARLIER}) j ${NAMES}`,
  },
} as const;

/** Where the next stretch of at most `jobs` numbers lies; null: behind the last. */
function nextStretch(run: RunNow, after: number, jobs: number): { of: keyof typeof STRETCHES; to: number } | null {
  if (after < run.filled_seq) return { of: 'jobs', to: Math.min(after + jobs, run.filled_seq) };
  if (after >= run.total_leads) return null;
  return { of: run.list_id === null ? 'earlier' : 'list', to: Math.min(after + jobs, run.total_leads) };
}

/** The names of all attributes of the run's leads, in the order of the alphabet; a first pass over it. */
async function collectKeys(
  read: (after: number) => Promise<{ keys: string[]; last: number | null }>,
): Promise<readonly string[]> {
  const found = new Set<string>();
  for (let after = 0; found.size < ATTRIBUTE_COLUMNS_MAX; ) {
    const { keys, last } = await read(after);
    for (const key of keys) found.add(key);
    if (last === null) break;
    after = last;
  }
  return [...found].slice(0, ATTRIBUTE_COLUMNS_MAX).sort();
}

async function readKeys(tx: Tx, run_id: RunId, after: number): Promise<{ keys: string[]; last: number | null }> {
  const stretch = nextStretch(await readRunNow(tx, run_id), after, KEYS_PAGE_JOBS);
  if (!stretch) return { keys: [], last: null };
  const rows = await tx.query<{ key: string }>(STRETCHES[stretch.of].names, [
    tx.business_id,
    run_id,
    after,
    stretch.to,
  ]);
  return { keys: rows.map(({ key }) => key), last: stretch.to };
}

async function readPage(tx: Tx, run_id: RunId, after: number): Promise<{ lines: ExportLine[]; last: number | null }> {
  const run = await readRunNow(tx, run_id);
  const stretch = nextStretch(run, after, PAGE_JOBS);
  if (!stretch) return { lines: [], last: null };
  const rows = await tx.query<JobLine>(STRETCHES[stretch.of].lines, [tx.business_id, run_id, after, stretch.to]);
  const called = rows.filter((row) => row.attempts > 0).map(({ seq }) => ({ run_id, seq }));
  const attempts = called.length > 0 ? await readAttempts(tx, called) : new Map<string, never>();
  const lines = rows.map(({ due_us, waits_for, ...row }) => ({
    ...row,
    status: effectiveJobStatus(run.status, row.status),
    reason: waits_for ?? row.reason,
    due_at: isoMicroseconds(due_us),
    tries: (attempts.get(formatJobId({ run_id, seq: row.seq })) ?? []).map(viewAttempt),
  }));
  return { lines, last: stretch.to };
}

function writeLines(line: ExportLine, keys: readonly string[], { rows }: ExportOptions): string[] {
  const known = new Set(keys);
  const others = Object.entries(line.attributes).filter(([key]) => !known.has(key));
  const attributes = [
    ...keys.map((key) => line.attributes[key] ?? ''),
    others.length > 0 ? JSON.stringify(Object.fromEntries(others)) : '',
  ];
  const tries = rows === 'attempts' && line.tries.length > 0 ? line.tries : [line.tries.at(-1) ?? null];
  return tries.map((attempt) =>
    csvSafeLine([...COLUMNS.map((column) => column.value(line, attempt) ?? ''), ...attributes]),
  );
}
