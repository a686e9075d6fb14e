import type { Lead, LeadId } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import type { Tx } from '../db/database.ts';

export interface LeadRow extends Omit<Lead, 'erased_at'> {
  erased_at: Date | null;
}

const LEAD = `SELECT lead_id, phone, name, external_id, time_zone, attributes, erased_at
  FROM carillon.leads WHERE business_id = $1 AND lead_id = $2`;

/** One lead. Throws `lead_not_found`, for another business's in the same words. */
export async function readLead(tx: Tx, lead_id: LeadId): Promise<LeadRow> {
  const [row] = await tx.query<LeadRow>(LEAD, [tx.business_id, lead_id]);
  if (!row) throw new CarillonError('lead_not_found');
  return row;
}

/** The same under its lock, the third in the lock order (run, lane, person, job, attempt). */
export async function lockLead(tx: Tx, lead_id: LeadId): Promise<LeadRow> {
  const [row] = await tx.query<LeadRow>(`${LEAD} FOR UPDATE`, [tx.business_id, lead_id]);
  if (!row) throw new CarillonError('lead_not_found');
  return row;
}

export function viewLead(row: LeadRow): Lead {
  const { lead_id, phone, name, external_id, time_zone, attributes } = row;
  const erased_at = row.erased_at?.toISOString() ?? null;
  return { lead_id, phone, name, external_id, time_zone, attributes, erased_at };
}
