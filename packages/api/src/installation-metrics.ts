import type { ReadinessReport } from '@carillon/contract';
import { type Clock, type Database, type Limits, readVitals, type Vitals } from '@carillon/engine';
import { shareChecks } from '@carillon/readiness';
import { Counter, Gauge, type Registry } from 'prom-client';

/** The database is asked at most this often, however often and by however many the metrics are read. */
const FRESH_MS = 10_000;
/** A database that does not answer in this time is said to be down, and its figures are left out. */
const ANSWER_MS = 4_000;

type Figure = { name: string; help: string; of: (vitals: Vitals) => number | null };

const GAUGES: Figure[] = [
  {
    name: 'carillon_migrations_current',
    help: '1: every migration of this release is applied, each with the checksum of its file.',
    of: ({ migrations_current }) => Number(migrations_current),
  },
  {
    name: 'carillon_unique_run_lead_valid',
    help: '1: the constraint unique_run_lead is what it must be.',
    of: ({ constraint_valid }) => Number(constraint_valid),
  },
  {
    name: 'carillon_walls_intact',
    help: '1: row security, policies, grants and logins are what they must be.',
    of: ({ walls_intact }) => Number(walls_intact),
  },
  {
    name: 'carillon_cursor_drift_runs',
    help: 'Runs at work, of the newest ones, whose counters differ from a recount of their rows.',
    of: ({ cursor_drift_runs }) => cursor_drift_runs,
  },
  {
    name: 'carillon_workers_alive',
    help: 'Workers that were seen within the lease TTL.',
    of: ({ workers }) => workers.alive,
  },
  {
    name: 'carillon_worker_clock_skew_seconds',
    help: "The most that a live worker's clock is off the database's.",
    of: ({ workers }) => (workers.worst_skew_ms === null ? null : workers.worst_skew_ms / 1_000),
  },
  {
    name: 'carillon_clock_skew_seconds',
    help: "How far this process's clock is ahead of the database's.",
    of: ({ clock }) => clock.skew_ms / 1_000,
  },
  { name: 'carillon_runs_due', help: 'Runs that somebody should be working on.', of: ({ load }) => load.runs_due },
  {
    name: 'carillon_stale_leases',
    help: 'Running runs without a heartbeat for longer than the TTL and the 2 s in which another worker takes over.',
    of: ({ load }) => load.stale_leases,
  },
  { name: 'carillon_open_attempts', help: 'Calls that are not settled.', of: ({ load }) => load.open_attempts },
  {
    name: 'carillon_unknown_attempts',
    help: 'Calls whose answer was lost and that are being looked for.',
    of: ({ load }) => load.unknown_attempts,
  },
  {
    name: 'carillon_oldest_unknown_seconds',
    help: 'How long ago the oldest of those should have been dialled.',
    of: ({ load }) => load.oldest_unknown_s ?? 0,
  },
  {
    name: 'carillon_needs_review',
    help: 'Leads of which a person has to say whether they were called.',
    of: ({ load }) => load.needs_review,
  },
  {
    name: 'carillon_unwanted_calls',
    help: 'Calls that nobody wants and that are not known to be over.',
    of: ({ load }) => load.unwanted_calls,
  },
  {
    name: 'carillon_silent_calls',
    help: 'Live calls of which their carrier has said nothing for two minutes.',
    of: ({ load }) => load.silent_calls,
  },
  {
    name: 'carillon_last_callback_age_seconds',
    help: 'Since the last callback of any carrier; absent while there was none.',
    of: ({ load }) => load.last_callback_age_s,
  },
  {
    name: 'carillon_restore_suspected',
    help: '1: the database may have forgotten calls; every run is paused until a person acknowledges it.',
    of: ({ restore_suspected }) => Number(restore_suspected),
  },
  { name: 'carillon_halted_lanes', help: 'Carrier accounts that take no calls.', of: ({ load }) => load.halted_lanes },
  {
    name: 'carillon_oldest_transaction_seconds',
    help: 'The oldest transaction that the application login may see.',
    of: ({ server }) => server.oldest_transaction_s,
  },
  {
    name: 'carillon_hidden_sessions',
    help: 'Sessions of other logins, of which the server tells the application nothing.',
    of: ({ server }) => server.hidden_sessions,
  },
  {
    name: 'carillon_server_connections',
    help: 'Connections of the whole PostgreSQL server.',
    of: ({ server }) => server.connections,
  },
  {
    name: 'carillon_server_connections_max',
    help: 'How many it may have.',
    of: ({ server }) => server.max_connections,
  },
  {
    name: 'carillon_durable',
    help: '1: fsync, synchronous_commit and full_page_writes are on.',
    of: ({ server: { settings } }) =>
      Number(['fsync', 'synchronous_commit', 'full_page_writes'].every((name) => settings[name] !== 'off')),
  },
];

/** Sums over all runs that only grow. */
const COUNTERS: Figure[] = [
  {
    name: 'carillon_reclaims_total',
    help: 'Runs that were taken over from a worker that had died.',
    of: ({ load }) => load.reclaims,
  },
  {
    name: 'carillon_runs_failed_total',
    help: 'Runs that were given up on, since their workers died over them again and again.',
    of: ({ load }) => load.runs_failed,
  },
];

/**
 * What the database says of the whole installation, in figures: read-only, without a canary, and naming no business.
 * Returns what notes the points of a full check that this process has made.
 */
export function measureInstallation(
  registry: Registry,
  { db, limits, clock }: { db: Database; limits: Limits; clock: Clock },
): (report: ReadinessReport) => void {
  const registers = [registry];
  const fresh = shareChecks<'vitals', Vitals>(clock, FRESH_MS, () => readVitals(db, limits, clock));
  const read = async () => await within(ANSWER_MS, fresh('vitals'));
  new Gauge({
    name: 'carillon_database_up',
    help: '1: the database answers.',
    registers,
    async collect() {
      this.set((await read()) ? 1 : 0);
    },
  });
  for (const { name, help, of } of GAUGES)
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        const vitals = await read();
        const value = vitals ? of(vitals) : null;
        if (value === null) this.remove();
        else this.set(value);
      },
    });
  for (const { name, help, of } of COUNTERS)
    new Counter({
      name,
      help,
      registers,
      async collect() {
        const vitals = await read();
        this.reset();
        if (vitals) this.inc(of(vitals) ?? 0);
      },
    });
  return readinessGauges(registry);
}

function readinessGauges(registry: Registry): (report: ReadinessReport) => void {
  const registers = [registry];
  const ok = new Gauge({
    name: 'carillon_readiness_ok',
    help: 'What the last full check of readiness in this process found; absent before the first.',
    labelNames: ['point'],
    registers,
  });
  const checked_at = new Gauge({
    name: 'carillon_readiness_checked_timestamp_seconds',
    help: 'When that was; 0: never.',
    registers,
  });
  const cancel = new Gauge({
    name: 'carillon_readiness_cancel_seconds',
    help: "How long its canary's stop took to be answered.",
    registers,
  });
  return ({ points, beyond, checked_at: at }) => {
    for (const result of [...points, ...beyond]) ok.set({ point: result.point }, Number(result.ok));
    checked_at.set(Date.parse(at) / 1_000);
    const answer_ms = points.find(({ point }) => point === 'cancel')?.evidence.answer_ms;
    if (typeof answer_ms === 'number') cancel.set(answer_ms / 1_000);
  };
}

/** Null for what fails or takes longer. */
async function within<T>(ms: number, work: Promise<T>): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => (timer = setTimeout(() => resolve(null), ms)));
  return await Promise.race([work.catch(() => null), late]).finally(() => clearTimeout(timer));
}
