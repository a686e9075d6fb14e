import type { BusinessId, ImportId, ImportReport, ListId } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import { readBusiness } from '../business/business.ts';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness, violatedConstraint } from '../db/database.ts';
import type { ImportFence, ImportTotals } from './import-types.ts';
import type { ImportLimits } from './limits.ts';

// An import is running, done or failed. Begin enters running; finish and fail leave it. The reaper of one whose
// process is gone: the next import into the list, which takes over once it has been silent for import_stale_ms.

export type Begun =
  | { kind: 'begun'; country: string; fence: ImportFence }
  | { kind: 'done'; country: string; report: ImportReport; request_hash: string | null };

/**
 * Makes the list ours to import into, or finds the import that was done under the same key. Throws `list_not_found`,
 * `import_in_progress`, `idempotency_conflict`.
 */
export async function beginImport(
  db: Database,
  business_id: BusinessId,
  list_id: ListId,
  idempotency_key: string | null,
  limits: ImportLimits,
): Promise<Begun> {
  try {
    return await inBusiness(db, business_id, async (tx) => {
      const list = await lockList(tx, list_id);
      const { country } = await readBusiness(tx);
      const earlier = idempotency_key === null ? null : await findByKey(tx, list_id, idempotency_key, limits);
      if (earlier) return { kind: 'done', country, ...earlier };
      await takeOver(tx, list.import_id, limits);
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
      return {
        kind: 'begun',
        country,
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

interface ImportRow extends ImportTotals {
  import_id: ImportId;
  list_id: ListId;
  state: 'running' | 'done' | 'failed';
  request_hash: string | null;
  stale: boolean;
}

const IMPORT = `
  SELECT import_id, list_id, state, request_hash, lines, accepted, duplicates, rejected,
         touched_at < now() - $3 * interval '1 ms' AS stale
  FROM carillon.list_imports WHERE business_id = $1`;

async function findByKey(tx: Tx, list_id: ListId, idempotency_key: string, limits: ImportLimits) {
  const params = [tx.business_id, idempotency_key, limits.import_stale_ms];
  const [row] = await tx.query<ImportRow>(`${IMPORT} AND idempotency_key = $2`, params);
  if (!row) return null;
  if (row.list_id !== list_id) throw new CarillonError('idempotency_conflict');
  if (row.state === 'done')
    return { report: reportOf(row.list_id, row.import_id, row), request_hash: row.request_hash };
  if (row.state === 'running' && !row.stale) throw new CarillonError('import_in_progress');
  // It came to nothing, so the key is free for the next try, which has an id of its own: the old one may still write.
  await tx.query('UPDATE carillon.list_imports SET idempotency_key = NULL WHERE business_id = $1 AND import_id = $2', [
    tx.business_id,
    row.import_id,
  ]);
  return null;
}

/** Ends the import that holds the list, if it is dead. Throws `import_in_progress` if it lives. */
async function takeOver(tx: Tx, import_id: ImportId | null, limits: ImportLimits): Promise<void> {
  if (import_id === null) return;
  const params = [tx.business_id, import_id, limits.import_stale_ms];
  const [row] = await tx.query<ImportRow>(`${IMPORT} AND import_id = $2`, params);
  if (row?.state === 'running' && !row.stale) throw new CarillonError('import_in_progress');
  tx.send(
    `UPDATE carillon.list_imports SET state = 'failed', error = 'taken over'
     WHERE business_id = $1 AND import_id = $2 AND state = 'running'`,
    [tx.business_id, import_id],
  );
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

/** The last line is in: the members count, in one stroke. */
export async function finishImport(
  db: Database,
  fence: ImportFence,
  totals: ImportTotals,
  request_hash: string,
): Promise<ImportReport> {
  return await inBusiness(db, fence.business_id, async (tx) => {
    await lockForImport(tx, fence);
    tx.send(
      'UPDATE carillon.lists SET leads = leads + $3, import_id = NULL WHERE business_id = $1 AND list_id = $2',
      [fence.business_id, fence.list_id, totals.accepted],
      1,
    );
    tx.send(
      `UPDATE carillon.list_imports SET state = 'done', request_hash = $3, touched_at = now()
       WHERE business_id = $1 AND import_id = $2 AND state = 'running'`,
      [fence.business_id, fence.import_id, request_hash],
      1,
    );
    return reportOf(fence.list_id, fence.import_id, totals);
  });
}

/** Says that an import came to nothing, and lets go of the list. One that was done or taken over stays as it is. */
export async function failImport(db: Database, fence: ImportFence, error: unknown): Promise<void> {
  await inBusiness(db, fence.business_id, async (tx) => {
    tx.send('UPDATE carillon.lists SET import_id = NULL WHERE business_id = $1 AND list_id = $2 AND import_id = $3', [
      fence.business_id,
      fence.list_id,
      fence.import_id,
    ]);
    tx.send(
      `UPDATE carillon.list_imports SET state = 'failed', error = $3, touched_at = now()
       WHERE business_id = $1 AND import_id = $2 AND state = 'running'`,
      [fence.business_id, fence.import_id, error instanceof CarillonError ? error.code : 'interrupted'],
    );
  });
}

function reportOf(list_id: ListId, import_id: ImportId, totals: ImportTotals): ImportReport {
  const { lines, accepted, duplicates, rejected } = totals;
  const rejected_url = `/api/imports/${import_id}/rejected.csv`;
  return { list_id, import_id, lines, accepted, duplicates, rejected, rejected_url };
}
