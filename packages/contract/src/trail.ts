import { z } from 'zod';

/**
 * What the trail records, with a word on when. `change`: something is different now. `security`: somebody tried what
 * is not theirs.
 */
export const AUDIT_ACTIONS = {
  'business.created': 'change',
  'business.entered': 'change',
  'key.created': 'change',
  'key.revoked': 'change',
  'system_key.created': 'change',
  'system_key.revoked': 'change',
  'carrier_account.created': 'change',
  'carrier_account.moved': 'change',
  'lane.halted': 'change',
  'lane.resumed': 'change',
  'list.created': 'change',
  'list.import_started': 'change',
  'list.imported': 'change',
  'list.import_failed': 'change',
  'lead.created': 'change',
  'lead.updated': 'change',
  'lead.erased': 'change',
  'run.created': 'change',
  'run.started': 'change',
  'run.leased': 'change',
  'run.reclaimed': 'change',
  'run.paused': 'change',
  'run.resumed': 'change',
  'run.cancel_requested': 'change',
  'run.hang_up_requested': 'change',
  'run.completed': 'change',
  'run.failed': 'change',
  'run.cancelled': 'change',
  'run.reconcile_requested': 'change',
  'run.account_changed': 'change',
  'adoption.finished': 'change',
  'restore.noticed': 'security',
  'restore.reconciled': 'change',
  'restore.acknowledged': 'change',
  'job.cancelled': 'change',
  'job.resolved': 'change',
  'access.unauthenticated': 'security',
  'access.forbidden': 'security',
  'access.id_not_visible': 'security',
  'access.signature_invalid': 'security',
  'access.forgotten_call': 'security',
} as const satisfies Record<string, 'change' | 'security'>;
export type AuditAction = keyof typeof AUDIT_ACTIONS;

export const AuditEvent = z.object({
  event_id: z.number(),
  kind: z.enum(['change', 'security']),
  action: z.string(),
  /** Such as `key:12`, `cli`, `worker:…`, `carrier`. */
  actor: z.string(),
  user_id: z.string().nullable(),
  /** An address, or the host of a process. */
  source: z.string().nullable(),
  request_id: z.string().nullable(),
  subject: z.object({ type: z.string(), id: z.string() }).nullable(),
  before: z.record(z.string(), z.unknown()).nullable(),
  after: z.record(z.string(), z.unknown()).nullable(),
  at: z.iso.datetime(),
});
export type AuditEvent = z.infer<typeof AuditEvent>;
