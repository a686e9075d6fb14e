import type { BusinessId, Import, ImportId, ImportReport, ListId } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import { type Business, readBusiness } from '../business/business.ts';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness, violatedConstraint } from '../db/database.ts';
import { keysetPage, type Page } from '../run/read.ts';
import type { ImportFence, ImportStanding } from './import-types.ts';
import type { ImportLimits } from './limits.ts';

// An import is running, done or failed. Begin enters running; finish and fail leave it. The reaper of one whose
// process is gone: the next import into the list, which takes over once it has been silent for import_stale_ms.

export type Begun =
  | { kind: 'begun'; business: Business; fence: ImportFence }
  | { kind: 'done'; business: Business; report: ImportReport; request_hash: string | null };

/**
 * Makes the list ours to import into, or finds the import that was done under the same key. Throws `list_not_found`,
 * `import_in_progress`, `idempotency_conflict`.
 */
export async function beginImport(
  db: Database,
  business_id: BusinessId,
  list_id: ListId,
  options: { idempotency_key: string | null; actor: Actor; limits: ImportLimits },
): Promise<Begun> {
  const { idempotency_key, actor, limits } = options;
  try {
    return await inBusiness(db, business_id, async (tx) => {
      const list = await lockList(tx, list_id);
      const business = await readBusiness(tx);
      const earlier = idempotency_key === null ? null : await findByKey(tx, list_id, idempotency_key, limits);
      if (earlier) return { kind: 'done', business, ...earlier };
      await takeOver(tx, list_id, list.import_id, options);
      const [row] = await tx.query<{ import_id: ImportId }>(
        `INSERT INTO carillon.list_imports (business_id, list_id, state, idempotency_key)
         VALUES ($1, $2, 'running', $3) RETURNING import_id`,
        [business_id, list_id, idempotency_key],
      );
      if (!row) throw new Error('an import was inserted and has no id');
      tx.send(
        'UPDATE carillon.lists SET import_id = $3 WHERE business_id = $1 AND list_id = $2',
        [business_id, list_id, row.import_id],
        1,
      );
      trailImport(tx, actor, 'list.import_started', list_id, { import_id: row.import_id });
      return {
        kind: 'begun',
        business,
        fence: { business_id, list_id, import_id: row.import_id, members_before: list.leads },
      };
    });
  } catch (error) {
    // Two lists at once under one key: the list's lock does not keep those apart.
    if (violatedConstraint(error) === 'unique_import_idempotency_key')
      throw new CarillonError('idempotency_conflict', {}, { cause: error });
    throw error;
  }
}

interface ListLock {
  leads: number;
  import_id: ImportId | null;
}

async function lockList(tx: Tx, list_id: ListId): Promise<ListLock> {
  const [list] = await tx.query<ListLock>(
    'SELECT leads, import_id FROM carillon.lists WHERE business_id = $1 AND list_id = $2 FOR NO KEY UPDATE',
    [tx.business_id, list_id],
  );
  if (!list) throw new CarillonError('list_not_found');
  return list;
}

/** Takes the list's lock for one batch. Throws `import_in_progress` when another import has taken over. */
export async function lockForImport(tx: Tx, fence: ImportFence): Promise<void> {
  const list = await lockList(tx, fence.list_id);
  if (list.import_id !== fence.import_id) throw new CarillonError('import_in_progress');
}

type ImportRow = Omit<Import, 'rejected_url' | 'created_at' | 'touched_at' | 'import_id' | 'list_id'> & {
  import_id: ImportId;
  list_id: ListId;
  request_hash: string | null;
  created_at: Date;
  touched_at: Date;
};

const COLUMNS = `import_id, list_id, state, request_hash, lines, accepted, duplicates, rejected, updated, reasons, file,
  bytes_read, error, created_at, touched_at`;

/** Touched in the future: before the database's clock was set back, by whoever that was. */
const IMPORT = `
  SELECT ${COLUMNS}, touched_at NOT BETWEEN now() - $3 * interval '1 ms' AND now() + interval '2 s' AS stale
  FROM carillon.list_imports WHERE business_id = $1`;

async function findByKey(tx: Tx, list_id: ListId, idempotency_key: string, limits: ImportLimits) {
  const params = [tx.business_id, idempotency_key, limits.import_stale_ms];
  const [row] = await tx.query<ImportRow & { stale: boolean }>(`${IMPORT} AND idempotency_key = $2`, params);
  if (!row) return null;
  if (row.list_id !== list_id) throw new CarillonError('idempotency_conflict');
  if (row.state === 'done') return { report: reportOf(row), request_hash: row.request_hash };
  if (row.state === 'running' && !row.stale) throw new CarillonError('import_in_progress');
  // It came to nothing, so the key is free for the next try, which has an id of its own: the old one may still write.
  await tx.query('UPDATE carillon.list_imports SET idempotency_key = NULL WHERE business_id = $1 AND import_id = $2', [
    tx.business_id,
    row.import_id,
  ]);
  return null;
}

/** Ends the import that holds the list, if it is dead. Throws `import_in_progress` if it lives. */
async function takeOver(
  tx: Tx,
  list_id: ListId,
  import_id: ImportId | null,
  { actor, limits }: { actor: Actor; limits: ImportLimits },
): Promise<void> {
  if (import_id === null) return;
  const params = [tx.business_id, import_id, limits.import_stale_ms];
  const [row] = await tx.query<ImportRow & { stale: boolean }>(`${IMPORT} AND import_id = $2`, params);
  if (row?.state === 'running' && !row.stale) throw new CarillonError('import_in_progress');
  const ended = await tx.query(
    `UPDATE carillon.list_imports SET state = 'failed', error = 'taken over'
     WHERE business_id = $1 AND import_id = $2 AND state = 'running' RETURNING import_id`,
    [tx.business_id, import_id],
  );
  if (ended.length > 0) trailImport(tx, actor, 'list.import_failed', list_id, { import_id, error: 'taken over' });
}

/** Removes what a broken import left above the list's members, from the top down, in bounded batches. */
export async function removeLeftovers(db: Database, fence: ImportFence, limits: ImportLimits): Promise<void> {
  const { business_id, list_id, import_id, members_before } = fence;
  for (let more = true; more; ) {
    more = await inBusiness(db, business_id, async (tx) => {
      await lockForImport(tx, fence);
      const [row] = await tx.query<{ top: number | null }>(
        'SELECT max(position) AS top FROM carillon.list_members WHERE business_id = $1 AND list_id = $2',
        [business_id, list_id],
      );
      const top = row?.top ?? 0;
      if (top <= members_before) return false;
      tx.send('DELETE FROM carillon.list_members WHERE business_id = $1 AND list_id = $2 AND position > $3', [
        business_id,
        list_id,
        Math.max(members_before, top - limits.import_batch_lines),
      ]);
      tx.send('UPDATE carillon.list_imports SET touched_at = now() WHERE business_id = $1 AND import_id = $2', [
        business_id,
        import_id,
      ]);
      return true;
    });
  }
}

/** Writes how far the import has come into its row, within the transaction of what it has done. */
export function tellStanding(tx: Tx, fence: ImportFence, { totals, bytes_read, file }: ImportStanding): void {
  const { lines, accepted, duplicates, rejected, updated, reasons } = totals;
  tx.send(
    `UPDATE carillon.list_imports SET lines = $3, accepted = $4, duplicates = $5, rejected = $6, updated = $7,
       reasons = $8::jsonb, file = $9::jsonb, bytes_read = $10, touched_at = now()
     WHERE business_id = $1 AND import_id = $2`,
    [
      fence.business_id,
      fence.import_id,
      lines,
      accepted,
      duplicates,
      rejected,
      updated,
      JSON.stringify(reasons),
      file === null ? null : JSON.stringify(file),
      bytes_read,
    ],
    1,
  );
}

/** A sign of life of an import that writes nothing at the moment: a workbook is read whole before its first line. */
export async function touchImport(db: Database, fence: ImportFence, bytes_read: number): Promise<void> {
  await inBusiness(db, fence.business_id, async (tx) => {
    tx.send(
      `UPDATE carillon.list_imports SET bytes_read = $3, touched_at = now()
       WHERE business_id = $1 AND import_id = $2 AND state = 'running'`,
      [fence.business_id, fence.import_id, bytes_read],
    );
  });
}

/** The last line is in: the members count, in one stroke. */
export async function finishImport(
  db: Database,
  fence: ImportFence,
  standing: ImportStanding,
  request_hash: string,
  actor: Actor,
): Promise<ImportReport> {
  return await inBusiness(db, fence.business_id, async (tx) => {
    await lockForImport(tx, fence);
    tellStanding(tx, fence, standing);
    tx.send(
      'UPDATE carillon.lists SET leads = leads + $3, import_id = NULL WHERE business_id = $1 AND list_id = $2',
      [fence.business_id, fence.list_id, standing.totals.accepted],
      1,
    );
    tx.send(
      `UPDATE carillon.list_imports SET state = 'done', request_hash = $3
       WHERE business_id = $1 AND import_id = $2 AND state = 'running'`,
      [fence.business_id, fence.import_id, request_hash],
      1,
    );
    const { reasons: _reasons, ...counts } = standing.totals;
    trailImport(tx, actor, 'list.imported', fence.list_id, { import_id: fence.import_id, ...counts });
    return reportOf({ ...fence, ...standing.totals, file: standing.file });
  });
}

/** Says that an import came to nothing, and lets go of the list. One that was done or taken over stays as it is. */
export async function failImport(db: Database, fence: ImportFence, error: unknown, actor: Actor): Promise<void> {
  const code = error instanceof CarillonError ? error.code : 'interrupted';
  await inBusiness(db, fence.business_id, async (tx) => {
    tx.send('UPDATE carillon.lists SET import_id = NULL WHERE business_id = $1 AND list_id = $2 AND import_id = $3', [
      fence.business_id,
      fence.list_id,
      fence.import_id,
    ]);
    const ended = await tx.query(
      `UPDATE carillon.list_imports SET state = 'failed', error = $3, touched_at = now()
       WHERE business_id = $1 AND import_id = $2 AND state = 'running' RETURNING import_id`,
      [fence.business_id, fence.import_id, code],
    );
    if (ended.length > 0)
      trailImport(tx, actor, 'list.import_failed', fence.list_id, { import_id: fence.import_id, error: code });
  });
}

function trailImport(
  tx: Tx,
  actor: Actor,
  action: 'list.import_started' | 'list.imported' | 'list.import_failed',
  list_id: ListId,
  after: Record<string, unknown>,
): void {
  trail(tx, actor, { action, subject: { type: 'list', id: list_id }, after });
}

function reportOf(row: Omit<ImportReport, 'rejected_url'>): ImportReport {
  const { list_id, import_id, lines, accepted, duplicates, rejected, updated, reasons, file } = row;
  const rejected_url = `/api/imports/${import_id}/rejected.csv`;
  return { list_id, import_id, lines, accepted, duplicates, rejected, updated, reasons, file, rejected_url };
}

/** An import as it stands, running or over. Throws `import_not_found`. */
export async function getImport(db: Database, business_id: BusinessId, import_id: ImportId): Promise<Import> {
  const [row] = await inBusiness(db, business_id, (tx) =>
    tx.query<ImportRow>(`SELECT ${COLUMNS} FROM carillon.list_imports WHERE business_id = $1 AND import_id = $2`, [
      business_id,
      import_id,
    ]),
  );
  if (!row) throw new CarillonError('import_not_found');
  return viewImport(row);
}

/** A list's imports, newest first. Throws `list_not_found`. */
export async function listImports(
  db: Database,
  business_id: BusinessId,
  list_id: ListId,
  options: { after?: ImportId | undefined; limit: number },
): Promise<Page<Import>> {
  const rows = await inBusiness(db, business_id, async (tx) => {
    const list = await tx.query('SELECT 1 FROM carillon.lists WHERE business_id = $1 AND list_id = $2', [
      business_id,
      list_id,
    ]);
    if (list.length === 0) throw new CarillonError('list_not_found');
    return await tx.query<ImportRow>(
      `SELECT ${COLUMNS} FROM carillon.list_imports
       WHERE business_id = $1 AND list_id = $2 AND ($3::bigint IS NULL OR import_id < $3)
       ORDER BY import_id DESC LIMIT $4`,
      [business_id, list_id, options.after ?? null, options.limit + 1],
    );
  });
  return keysetPage(rows.map(viewImport), options.limit, (row) => String(row.import_id));
}

function viewImport(row: ImportRow): Import {
  return {
    ...reportOf(row),
    state: row.state,
    bytes_read: row.bytes_read,
    error: row.error,
    created_at: row.created_at.toISOString(),
    touched_at: row.touched_at.toISOString(),
  };
}
