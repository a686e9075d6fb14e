import { CarillonError } from '@carillon/contract';
import { type Database, queryGlobal, type Tx } from '../db/database.ts';

/**
 * Where the database stands. A dump that is restored has other numbers of tables or another database, another server
 * another identifier; a promoted replica and a recovery to a point in time have another timeline. A crash or a restart
 * changes none of them. The timeline is read from the log's position: that in the control file follows a promotion only
 * at the next checkpoint. Every login may ask for these, on PostgreSQL 15 to 18.
 */
export const HERE = `(SELECT c.system_identifier::text || '/' || d.oid || '/' || 'carillon.installation_state'::regclass::oid
    || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
  FROM pg_control_system() c, pg_database d WHERE d.datname = current_database())`;

export interface RestoreState {
  /** Where the database stood when all was well last, or when it was suspected; null: no process has been there yet. */
  place: string | null;
  /** Where it stands now. */
  here: string;
  /** How many restores were noticed so far. */
  restores: number;
  suspected_at: Date | null;
  /** Why calls may be forgotten; null: they are not believed to be. */
  reason: string | null;
}

export async function readRestoreState(db: Database): Promise<RestoreState> {
  const [state] = await queryGlobal<RestoreState>(
    db,
    `SELECT place, ${HERE} AS here, restores, suspected_at, reason FROM carillon.installation_state WHERE singleton`,
  );
  if (!state) throw new Error('the row of carillon.installation_state is gone; restore it from a backup');
  return state;
}

/** The first process on a new database says where it stands. */
export async function settleHere(db: Database): Promise<void> {
  await queryGlobal(
    db,
    `UPDATE carillon.installation_state SET place = ${HERE} WHERE singleton AND place IS NULL AND suspected_at IS NULL`,
  );
}

/**
 * $2, from $3, says why ($1) the database may have forgotten calls, and counts that beyond the $4 restores that it knows
 * of; where it has seen $5 of them in the database, only if nobody has counted since. The place is kept at which it was
 * suspected, so that another one is noticed while nobody has acknowledged it.
 */
export const SUSPECT = `
  WITH noticed AS (
    UPDATE carillon.installation_state SET suspected_at = now(), reason = $1, place = ${HERE},
      restores = greatest(restores, $4::int) + 1
    WHERE singleton AND ($5::int IS NULL OR restores = $5) RETURNING restores)
  INSERT INTO carillon.installation_events (kind, action, actor, source, after)
  SELECT 'security', 'restore.noticed', $2, $3, jsonb_build_object('reason', $1::text, 'restores', restores)
  FROM noticed RETURNING event_id`;

/**
 * A person ($1, from $2) says that this is the database to be known, of restore $3, with $4 accounts that were not asked.
 * Not where it is in another place again than where it was suspected: that is a restore which nobody has counted yet.
 */
export const ACKNOWLEDGE = `
  WITH done AS (
    UPDATE carillon.installation_state SET suspected_at = NULL, reason = NULL, place = ${HERE}
    WHERE singleton AND suspected_at IS NOT NULL AND restores = $3 AND (place IS NULL OR place = ${HERE})
    RETURNING restores)
  INSERT INTO carillon.installation_events (kind, action, actor, source, after)
  SELECT 'change', 'restore.acknowledged', $1, $2,
    jsonb_build_object('restores', restores, 'unsettled_accounts', $4::int) FROM done RETURNING event_id`;

/** What a process knows of its own row among the witnesses. */
export interface Recollection {
  witness_id: string;
  /** The last beat whose commit was answered. */
  beat: number;
  /** How many restores had been noticed then. */
  restores: number;
}

/**
 * One row, `whole`: the database is where it was when all was well, nobody suspects that it has forgotten calls, and it
 * still has what the witness $1 wrote last ($2 beats); both NULL for whoever has no memory. A claim asks this under its
 * locks, so that nothing is claimed between a restore and its notice by any process that lived through it.
 */
export const IS_WHOLE = `
  SELECT EXISTS (
    SELECT FROM carillon.installation_state s
    WHERE s.singleton AND s.suspected_at IS NULL AND (s.place IS NULL OR s.place = ${HERE})
      AND ($1::text IS NULL OR EXISTS (
        SELECT FROM carillon.witnesses w WHERE w.witness_id = $1 AND w.beat >= $2::bigint))) AS whole`;

const PARTS = ['system identifier', 'database', 'table', 'timeline'] as const;

/** In words: which part of its place has changed. */
export function placeChanged(place: string, here: string): string {
  const [before, now] = [place.split('/'), here.split('/')];
  const at = PARTS.findIndex((_, i) => before[i] !== now[i]);
  return `another ${PARTS[at] ?? 'place'}: ${now[at] ?? here}, it was ${before[at] ?? place}`;
}

/** What a process with this memory has to say against this database; null: nothing. */
export function objection(state: RestoreState, known: Recollection | null, beat: number | null): string | null {
  if (state.place !== null && state.place !== state.here) return placeChanged(state.place, state.here);
  if (known === null || state.restores > known.restores) return null;
  if (state.restores < known.restores)
    return `an older state: of ${known.restores} restores that were noticed it knows ${state.restores}`;
  if (beat === null) return `an older state: it does not know ${known.witness_id}, which had written to it`;
  if (beat < known.beat)
    return `an older state: ${known.witness_id} had written ${known.beat} times to it, it has ${beat}`;
  return null;
}

/** Why the database is believed to have forgotten calls; null: it is not. In a statement of its own, after the locks. */
export async function isSuspected(tx: Tx): Promise<string | null> {
  const [state] = await tx.query<{ reason: string }>(
    'SELECT reason FROM carillon.installation_state WHERE singleton AND suspected_at IS NOT NULL',
  );
  return state?.reason ?? null;
}

/** Throws `restore_unacknowledged` while the database is believed to have forgotten calls. */
export async function refuseWhileSuspected(tx: Tx): Promise<void> {
  const reason = await isSuspected(tx);
  if (reason !== null) throw new CarillonError('restore_unacknowledged', { reason });
}
