import { AUDIT_ACTIONS, type AuditAction } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import type { Tx } from '../db/database.ts';

/** What a system administrator does to the installation, or with a business of it. */
export interface InstallationEntry {
  action: AuditAction;
  subject: { type: 'business' | 'system_key'; id: number };
  after?: Record<string, unknown>;
}

const INSERT = `INSERT INTO carillon.installation_events (kind, action, actor, source, request_id, subject_type,
   subject_id, after, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, clock_timestamp())`;

/** Writes into the installation's trail in the transaction of a business that the change is about. */
export function installationTrail(tx: Tx, actor: Actor, entry: InstallationEntry): void {
  tx.send(
    INSERT,
    [
      AUDIT_ACTIONS[entry.action],
      entry.action,
      actor.name,
      actor.source ?? null,
      actor.request_id ?? null,
      entry.subject.type,
      entry.subject.id,
      entry.after ? JSON.stringify(entry.after) : null,
    ],
    1,
  );
}
