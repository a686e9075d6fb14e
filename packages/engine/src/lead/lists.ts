import type { BusinessId, Lead, List, ListId } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import { readBusiness } from '../business/business.ts';
import { isStorable } from '../business/storable.ts';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { keysetPage, type Page } from '../run/read.ts';
import { type LeadRow, viewLead } from './view.ts';

interface ListRow extends Omit<List, 'created_at'> {
  created_at: Date;
}

const LIST = 'SELECT list_id, name, leads, created_at FROM carillon.lists WHERE business_id = $1';

/** Creates an empty list. Names need not differ. Throws `invalid_request`. */
export async function createList(
  db: Database,
  business_id: BusinessId,
  input: { name: string },
  actor: Actor,
): Promise<List> {
  const name = checkedName(input.name);
  return await inBusiness(db, business_id, async (tx) => {
    await readBusiness(tx);
    return await insertList(tx, name, actor);
  });
}

/**
 * The oldest list of this name, created when there is none: what a person means who names a list. Two at once get the
 * same one. Throws `invalid_request`.
 */
export async function listNamed(
  db: Database,
  business_id: BusinessId,
  input: { name: string },
  actor: Actor,
): Promise<List> {
  const name = checkedName(input.name);
  return await inBusiness(db, business_id, async (tx) => {
    await tx.query('SELECT 1 FROM carillon.businesses WHERE business_id = $1 FOR NO KEY UPDATE', [business_id]);
    await readBusiness(tx);
    const [list] = await tx.query<ListRow>(`${LIST} AND name = $2 ORDER BY list_id LIMIT 1`, [business_id, name]);
    return list ? viewList(list) : await insertList(tx, name, actor);
  });
}

/** The business's lists, newest first. */
export async function listLists(
  db: Database,
  business_id: BusinessId,
  options: { after?: ListId | undefined; limit: number },
): Promise<Page<List>> {
  const rows = await inBusiness(db, business_id, (tx) =>
    tx.query<ListRow>(`${LIST} AND ($2::bigint IS NULL OR list_id < $2) ORDER BY list_id DESC LIMIT $3`, [
      business_id,
      options.after ?? null,
      options.limit + 1,
    ]),
  );
  return keysetPage(rows.map(viewList), options.limit, (list) => String(list.list_id));
}

/** A list's leads in its order; `after` is a position in it. Members of an import under way are not shown. Throws `list_not_found`. */
export async function listListLeads(
  db: Database,
  business_id: BusinessId,
  list_id: ListId,
  options: { after?: number | undefined; limit: number },
): Promise<Page<Lead>> {
  const rows = await inBusiness(db, business_id, async (tx) => {
    const [list] = await tx.query<{ leads: number }>(`${LIST} AND list_id = $2`, [business_id, list_id]);
    if (!list) throw new CarillonError('list_not_found');
    return await tx.query<LeadRow & { position: number }>(
      `SELECT m.position, l.lead_id, l.phone, l.name, l.external_id, l.time_zone, l.attributes, l.erased_at
       FROM carillon.list_members m
       CROSS JOIN LATERAL (
         SELECT * FROM carillon.leads WHERE business_id = $1 AND lead_id = m.lead_id OFFSET 0) l
       WHERE m.business_id = $1 AND m.list_id = $2 AND m.position > $3 AND m.position <= $4
       ORDER BY m.position LIMIT $5`,
      [business_id, list_id, options.after ?? 0, list.leads, options.limit + 1],
    );
  });
  const page = keysetPage(rows, options.limit, (row) => String(row.position));
  return { next: page.next, items: page.items.map(viewLead) };
}

async function insertList(tx: Tx, name: string, actor: Actor): Promise<List> {
  const [row] = await tx.query<ListRow>(
    `INSERT INTO carillon.lists (business_id, name) VALUES ($1, $2) RETURNING list_id, name, leads, created_at`,
    [tx.business_id, name],
  );
  if (!row) throw new Error('a list was inserted and is not there');
  trail(tx, actor, { action: 'list.created', subject: { type: 'list', id: row.list_id } });
  return viewList(row);
}

function checkedName(text: string): string {
  const name = text.trim();
  if (name.length < 1 || name.length > 200 || !isStorable(name))
    throw new CarillonError('invalid_request', { problem: 'the name of a list has 1 to 200 characters' });
  return name;
}

function viewList(row: ListRow): List {
  return { list_id: row.list_id, name: row.name, leads: row.leads, created_at: row.created_at.toISOString() };
}
