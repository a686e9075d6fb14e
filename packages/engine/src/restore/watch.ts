import type { Actor } from '../actor.ts';
import { type Database, queryGlobal } from '../db/database.ts';
import { forgetMemories, type MemoryFile, openMemoryFile, readMemories } from './memory-file.ts';
import { hasRuns, pauseForRestore, suspectRestore } from './notice.ts';
import { objection, readRestoreState, settleHere, type Recollection, type RestoreState } from './state.ts';

/** How often each process writes to its row and looks whether the database is the one that it knows. */
const BEAT_EVERY_MS = 1_000;
/** Rows and files of processes that have been gone for longer than this are given up. */
const FORGET_AFTER_DAYS = 30;

export interface RestoreWatch {
  /** What this process has written last; null until its first beat is committed, and nothing may be claimed before. */
  known(): Recollection | null;
  /** Of the last look: the database may have forgotten calls, and nobody has acknowledged it. */
  suspected(): RestoreState | null;
  /** Looks and writes now. Throws what stands in the way. */
  beat(): Promise<void>;
  close(): Promise<void>;
}

export interface WatchOptions {
  db: Database;
  /** The process, by an id that none had before it. */
  witness_id: string;
  actor: Actor;
  /** Where what is remembered outlives the process; undefined: nowhere. */
  memory_dir?: string | undefined;
  onNotice(reason: string): void;
  onError(error: unknown): void;
}

/**
 * Has this process notice that the database is another than the one it knows, or an older state of it (docs/adr/0009),
 * and pause every run while that is not acknowledged. The first beat is under way when this returns.
 */
export function watchForRestore(options: WatchOptions): RestoreWatch {
  const { db, witness_id, actor, onNotice, onError } = options;
  let known: Recollection | null = null;
  let suspected: RestoreState | null = null;
  let file: MemoryFile | null = null;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  /** What others left behind who are gone is looked at once, before anything is claimed. */
  async function hearTheDead({ place }: RestoreState): Promise<Recollection[]> {
    if (options.memory_dir === undefined || file !== null) return [];
    // Where no process has ever been, and nobody was ever to be called, the dead were in another database.
    if (place === null && !(await hasRuns(db))) return [];
    const memories = await readMemories(options.memory_dir, FORGET_AFTER_DAYS);
    return memories.filter((memory) => memory.witness_id !== witness_id);
  }

  async function beat(): Promise<void> {
    let state = await readRestoreState(db);
    const earlier = await hearTheDead(state);
    if (state.place === null) {
      await settleHere(db);
      state = await readRestoreState(db);
    }
    const memories = known === null ? earlier : [known, ...earlier];
    const beats = await readBeats(
      db,
      memories.map((memory) => memory.witness_id),
    );
    const objections = [null, ...memories].map((memory) =>
      objection(state, memory, memory && (beats.get(memory.witness_id) ?? null)),
    );
    const reason = objections.find((one) => one !== null) ?? null;
    if (reason !== null) {
      const seen = { restores: state.restores, known: Math.max(0, ...memories.map((memory) => memory.restores)) };
      // Another counts it, or it has been replaced once more: the next look tells, with what is remembered until then.
      if (!(await suspectRestore(db, reason, actor, seen))) return;
      onNotice(reason);
      state = await readRestoreState(db);
    }
    suspected = state.reason === null ? null : state;
    await write(state);
    if (state.reason !== null) await pauseForRestore(db, state.reason, actor, onError);
  }

  async function write(state: RestoreState): Promise<void> {
    // A restore that was counted since: from here on this database is the one to be known.
    const enrols = known === null || state.restores !== known.restores;
    const written = enrols
      ? await enrol(db, witness_id, known?.beat ?? 0)
      : await raise(db, witness_id, known?.beat ?? 0);
    if (written === null) throw new Error('the database changed between a look and a write; looking again');
    known = { witness_id, beat: written, restores: state.restores };
    if (options.memory_dir === undefined) return;
    if (file === null) {
      file = await openMemoryFile(options.memory_dir, witness_id);
      await forgetMemories(options.memory_dir, FORGET_AFTER_DAYS);
      await queryGlobal(db, `DELETE FROM carillon.witnesses WHERE seen_at < now() - $1 * interval '1 day'`, [
        2 * FORGET_AFTER_DAYS,
      ]);
    }
    await file.write(known);
  }

  const round = async (): Promise<void> => {
    await beat().catch(onError);
    if (!closed) timer = setTimeout(() => void (beating = round()), BEAT_EVERY_MS);
  };
  let beating = round();

  return {
    known: () => known,
    suspected: () => suspected,
    beat,
    async close() {
      closed = true;
      clearTimeout(timer);
      await beating;
    },
  };
}

async function readBeats(db: Database, ids: readonly string[]): Promise<ReadonlyMap<string, number>> {
  if (ids.length === 0) return new Map();
  const rows = await queryGlobal<{ witness_id: string; beat: number }>(
    db,
    'SELECT witness_id, beat FROM carillon.witnesses WHERE witness_id = ANY ($1)',
    [ids],
  );
  return new Map(rows.map((row) => [row.witness_id, row.beat]));
}

/** Makes the process's row, or takes over what an older state has of it. */
async function enrol(db: Database, witness_id: string, at_least: number): Promise<number | null> {
  const [row] = await queryGlobal<{ beat: number }>(
    db,
    `INSERT INTO carillon.witnesses AS w (witness_id, beat) VALUES ($1, $2::bigint + 1)
     ON CONFLICT (witness_id) DO UPDATE SET beat = greatest(w.beat, $2::bigint) + 1, seen_at = now() RETURNING beat`,
    [witness_id, at_least],
  );
  return row?.beat ?? null;
}

async function raise(db: Database, witness_id: string, known: number): Promise<number | null> {
  const [row] = await queryGlobal<{ beat: number }>(
    db,
    `UPDATE carillon.witnesses SET beat = beat + 1, seen_at = now() WHERE witness_id = $1 AND beat >= $2 RETURNING beat`,
    [witness_id, known],
  );
  return row?.beat ?? null;
}
