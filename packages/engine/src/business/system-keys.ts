import { CarillonError, type SystemKey, SystemKeyId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { type Database, queryGlobal } from '../db/database.ts';
import { keysetPage, type Page } from '../run/read.ts';
import { checkedLabel, createSecret, hashSecret, isSecretOf } from './key-secrets.ts';

/** Who came in with a system administrator's own key. It opens what belongs to the installation, and no business. */
export interface SystemPrincipal {
  key_id: SystemKeyId;
}

export const SYSTEM_KEY_PREFIX = 'ck_system_';
const KEY = /^ck_system_([1-9]\d{0,15})_([A-Za-z0-9_-]{32})$/;

/** Creates a system administrator's key, `ck_system_<key_id>_<secret>`, told here once. Throws `invalid_request`. */
export async function createSystemKey(
  db: Database,
  input: { label?: string | undefined; expires_at?: Date | undefined },
  actor: Actor,
): Promise<SystemKey & { key: string; key_id: SystemKeyId }> {
  const secret = createSecret();
  const [row] = await queryGlobal<KeyRow>(
    db,
    // One statement, so that no key is without its event.
    `WITH made AS (
       INSERT INTO carillon.system_keys (label, secret_hash, expires_at) VALUES ($1, $2, $3)
       RETURNING key_id, label, 'valid' AS state, created_at, expires_at, revoked_at),
     noted AS (
       INSERT INTO carillon.installation_events (kind, action, actor, source, request_id, subject_type, subject_id)
       SELECT 'change', 'system_key.created', $4, $5, $6, 'system_key', key_id FROM made)
     SELECT * FROM made`,
    [checkedLabel(input.label), hashSecret(secret), input.expires_at ?? null, ...whoOf(actor)],
  );
  if (!row) throw new Error('a key was inserted and has no id');
  return { ...viewKey(row), key_id: row.key_id, key: `${SYSTEM_KEY_PREFIX}${row.key_id}_${secret}` };
}

const whoOf = (actor: Actor) => [actor.name, actor.source ?? null, actor.request_id ?? null];

const LIST = `SELECT key_id, label, created_at, expires_at, revoked_at,
   CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'valid' END AS state
   FROM carillon.system_keys`;

/** The system administrators' keys without their secrets, newest first. */
export async function listSystemKeys(
  db: Database,
  options: { after?: SystemKeyId | undefined; limit: number },
): Promise<Page<SystemKey>> {
  const rows = await queryGlobal<KeyRow>(
    db,
    `${LIST} WHERE ($1::bigint IS NULL OR key_id < $1) ORDER BY key_id DESC LIMIT $2`,
    [options.after ?? null, options.limit + 1],
  );
  return keysetPage(rows.map(viewKey), options.limit, (key) => String(key.key_id));
}

/**
 * Makes it useless at once and for good, and with it every key of a business that was entered with it. Revoking again
 * changes nothing. Throws `key_not_found`.
 */
export async function revokeSystemKey(db: Database, key_id: SystemKeyId, actor: Actor): Promise<SystemKey> {
  await queryGlobal(
    db,
    `WITH revoked AS (
       UPDATE carillon.system_keys SET revoked_at = now() WHERE key_id = $4 AND revoked_at IS NULL RETURNING key_id)
     INSERT INTO carillon.installation_events (kind, action, actor, source, request_id, subject_type, subject_id)
     SELECT 'change', 'system_key.revoked', $1, $2, $3, 'system_key', key_id FROM revoked`,
    [...whoOf(actor), key_id],
  );
  const [row] = await queryGlobal<KeyRow>(db, `${LIST} WHERE key_id = $1`, [key_id]);
  if (!row) throw new CarillonError('key_not_found');
  return viewKey(row);
}

/** Whose key this is; null when it is malformed, unknown, revoked or expired, all of which do the same work. */
export async function authenticateSystem(db: Database, key: string): Promise<SystemPrincipal | null> {
  const [, id, secret = ''] = KEY.exec(key) ?? [];
  const key_id = SystemKeyId.safeParse(id).data ?? NOBODY;
  const [row] = await queryGlobal<{ secret_hash: Buffer; valid: boolean }>(
    db,
    `SELECT secret_hash, revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AS valid
     FROM carillon.system_keys WHERE key_id = $1`,
    [key_id],
  );
  const same = isSecretOf(secret, row?.secret_hash);
  return row && same && row.valid ? { key_id } : null;
}

const NOBODY = SystemKeyId.parse(Number.MAX_SAFE_INTEGER);

interface KeyRow extends Omit<SystemKey, 'key_id' | 'created_at' | 'expires_at' | 'revoked_at'> {
  key_id: SystemKeyId;
  created_at: Date;
  expires_at: Date | null;
  revoked_at: Date | null;
}

function viewKey({ created_at, expires_at, revoked_at, ...key }: KeyRow): SystemKey {
  return {
    ...key,
    created_at: created_at.toISOString(),
    expires_at: expires_at?.toISOString() ?? null,
    revoked_at: revoked_at?.toISOString() ?? null,
  };
}
