import type { AuditAction, BusinessId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { type Database, inBusiness, queryGlobal } from '../db/database.ts';
import { trail, type TrailEntry } from './trail.ts';

/** Somebody tried what is not theirs: so often, in the same way, since it was last written down. */
export interface SecurityNote {
  action: Extract<AuditAction, `access.${string}`>;
  actor: Actor;
  subject?: TrailEntry['subject'] | undefined;
  /** How: the route, the reason. Nothing that a person could be found by, and no key. */
  after: Record<string, unknown>;
  times: number;
}

/** Into the trail of the business whose key was used. */
export async function recordSecurity(db: Database, business_id: BusinessId, events: SecurityNote[]): Promise<void> {
  await inBusiness(db, business_id, async (tx) => {
    for (const { action, actor, subject, after, times } of events)
      trail(tx, actor, {
        action,
        ...(subject && { subject }),
        after: times > 1 ? { ...after, times } : after,
      });
  });
}

/** Into the installation's trail: strangers, of whom no business is known, and system administrators. */
export async function recordStrangers(db: Database, events: SecurityNote[]): Promise<void> {
  await queryGlobal(
    db,
    `WITH noted AS (
       INSERT INTO carillon.installation_events (kind, action, actor, source, request_id, subject_type, subject_id,
         after, times, at)
       SELECT 'security', e.action, e.actor, e.source, e.request_id, e.subject_type, e.subject_id, e.after, e.times,
              clock_timestamp()
       FROM jsonb_to_recordset($1::jsonb) AS e (action text, actor text, source text, request_id text,
         subject_type text, subject_id text, after jsonb, times integer)
       RETURNING 1)
     SELECT count(*) FROM noted`,
    [
      JSON.stringify(
        events.map(({ action, actor, subject, after, times }) => ({
          action,
          actor: actor.name,
          source: actor.source,
          request_id: actor.request_id,
          subject_type: subject?.type,
          subject_id: subject && String(subject.id),
          after,
          times,
        })),
      ),
    ],
  );
}
