import { AUDIT_ACTIONS, type AuditAction, type RunId, type RunStatus } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import type { Tx } from '../db/database.ts';

export interface TrailEntry {
  action: AuditAction;
  /** What it is about. A job's id is `<run_id>-<seq>`. */
  subject?: {
    type: 'business' | 'key' | 'carrier_account' | 'list' | 'import' | 'lead' | 'run' | 'job';
    id: number | string;
  };
  /** The fields that change, as they were and as they are. Ids, states, numbers: nothing that a person could be found by. */
  before?: Record<string, unknown>;
  after?: Record<string, unknown>;
}

/**
 * Writes into the business's trail, in the transaction of the change: neither can be without the other. The time is the
 * clock's, not the transaction's beginning: of two changes of one run, the one that got the run's lock later is later.
 */
export function trail(tx: Tx, actor: Actor, entry: TrailEntry): void {
  tx.send(
    `INSERT INTO carillon.audit_events (business_id, kind, action, actor, user_id, source, request_id,
       subject_type, subject_id, before, after, at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11::jsonb, clock_timestamp())`,
    [
      tx.business_id,
      AUDIT_ACTIONS[entry.action],
      entry.action,
      actor.name,
      actor.user_id,
      actor.source ?? null,
      actor.request_id ?? null,
      entry.subject?.type ?? null,
      entry.subject ? String(entry.subject.id) : null,
      json(entry.before),
      json(entry.after),
    ],
    1,
  );
}

/** What the trail holds of a run at each of its changes. */
export interface RunState {
  status: RunStatus;
  control_epoch: number;
}

/**
 * A change of a run whose lock is held. The events of a run form a chain: each begins with the state and the control
 * epoch with which the one before it ended, and the last one ends with those of the row.
 */
export function trailRun(
  tx: Tx,
  actor: Actor,
  action: Extract<AuditAction, `run.${string}`>,
  run: RunState & { run_id: RunId },
  after: Partial<RunState> & Record<string, unknown>,
  before: Record<string, unknown> = {},
): void {
  const { status, control_epoch } = run;
  trail(tx, actor, {
    action,
    subject: { type: 'run', id: run.run_id },
    before: { status, control_epoch, ...before },
    after: { status, control_epoch, ...after },
  });
}

const json = (value: Record<string, unknown> | undefined) => (value ? JSON.stringify(value) : null);
