import type { AuditAction, AuditEvent, BusinessId } from '@carillon/contract';
import type { Database } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { keysetPage, type Page } from '../run/read.ts';

export interface AuditFilter {
  kind?: AuditEvent['kind'] | undefined;
  action?: AuditAction | undefined;
  /** What the events are about; a job's id is `<run_id>-<seq>`. */
  subject?: { type: string; id: string } | undefined;
  after?: number | undefined;
  limit: number;
}

interface EventRow extends Omit<AuditEvent, 'subject' | 'at'> {
  subject_type: string | null;
  subject_id: string | null;
  at: Date;
}

const EVENTS = `
  SELECT event_id, kind, action, actor, user_id, source, request_id, subject_type, subject_id, before, after, at
  FROM carillon.audit_events
  WHERE business_id = $1 AND ($2::bigint IS NULL OR event_id < $2) AND ($3::text IS NULL OR action = $3)`;
const NEWEST_FIRST = 'ORDER BY event_id DESC LIMIT $4';

/** A text for each filter, since no plan that fits every filter uses the index that fits one of them. */
export const TRAIL_PAGES = {
  all: `${EVENTS} ${NEWEST_FIRST}`,
  kind: `${EVENTS} AND kind = $5 ${NEWEST_FIRST}`,
  subject: `${EVENTS} AND subject_type = $5 AND subject_id = $6 AND ($7::text IS NULL OR kind = $7) ${NEWEST_FIRST}`,
} as const;

/** The business's trail, newest first, optionally only what is of one kind, one action, or about one thing. */
export async function listAuditEvents(
  db: Database,
  business_id: BusinessId,
  { kind, action, subject, after, limit }: AuditFilter,
): Promise<Page<AuditEvent>> {
  const params = [business_id, after ?? null, action ?? null, limit + 1];
  const rows = await inBusiness(db, business_id, (tx) => {
    if (subject) return tx.query<EventRow>(TRAIL_PAGES.subject, [...params, subject.type, subject.id, kind ?? null]);
    return kind ? tx.query<EventRow>(TRAIL_PAGES.kind, [...params, kind]) : tx.query<EventRow>(TRAIL_PAGES.all, params);
  });
  return keysetPage(rows.map(viewEvent), limit, (event) => String(event.event_id));
}

function viewEvent({ subject_type, subject_id, at, ...event }: EventRow): AuditEvent {
  const subject = subject_type !== null && subject_id !== null ? { type: subject_type, id: subject_id } : null;
  return { ...event, subject, at: at.toISOString() };
}
