import type { Clock } from '../clock.ts';
import { checkLogin, LoginError } from '../db/check-login.ts';
import type { Database } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { readRestoreState } from '../restore/state.ts';
import { readConstraint } from './constraint.ts';
import { probeMigrations } from './migrations.ts';
import { chooseLiveRuns, recountRun } from './recount.ts';
import {
  type LoadProbe,
  probeClock,
  probeLoad,
  probeServer,
  probeWorkers,
  type ServerProbe,
  type WorkersProbe,
} from './server.ts';

/** What can be read of an installation at any time without making anything: for metrics. */
export interface Vitals {
  migrations_current: boolean;
  constraint_valid: boolean;
  walls_intact: boolean;
  /** Of the newest runs at work. */
  cursor_drift_runs: number;
  workers: WorkersProbe;
  clock: { skew_ms: number; uncertainty_ms: number };
  load: LoadProbe;
  server: ServerProbe;
  /** The database may have forgotten calls, and nobody has acknowledged it. */
  restore_suspected: boolean;
}

/** Recounting costs more than all the rest. */
const RECOUNTED = { runs_max: 20, jobs_max: 50_000 } as const;

export async function readVitals(db: Database, limits: Limits, clock: Clock): Promise<Vitals> {
  const { problem } = await probeMigrations(db);
  return {
    migrations_current: problem === null,
    constraint_valid: (await readConstraint(db)).valid,
    walls_intact: await areWallsIntact(db),
    cursor_drift_runs: await countDrift(db),
    workers: await probeWorkers(db, limits),
    clock: await probeClock(db, clock),
    load: await probeLoad(db, limits),
    server: await probeServer(db),
    restore_suspected: (await readRestoreState(db)).suspected_at !== null,
  };
}

async function areWallsIntact(db: Database): Promise<boolean> {
  return await checkLogin(db).then(
    () => true,
    (error: unknown) => {
      if (error instanceof LoginError) return false;
      throw error;
    },
  );
}

async function countDrift(db: Database): Promise<number> {
  const { chosen } = await chooseLiveRuns(db, RECOUNTED);
  let drifting = 0;
  for (const { business_id, run_id } of chosen) {
    const seen = await recountRun(db, business_id, run_id);
    if (seen && Object.keys(seen.differing).length > 0) drifting++;
  }
  return drifting;
}
