import {
  type ApiKey,
  BusinessId,
  CarillonError,
  KeyId,
  type KeyRole,
  type Language,
  type Role,
} from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { keysetPage, type Page } from '../run/read.ts';
import { readBusiness } from './business.ts';
import { checkedLabel, createSecret, hashSecret, isSecretOf } from './key-secrets.ts';

/** Who came in with a key of a business. A system administrator's own key belongs to none: see system-keys.ts. */
export interface Principal {
  business_id: BusinessId;
  /** `system_admin`: a key from an entry into the business, which may do what an owner may. */
  role: Role;
  key_id: KeyId;
  /** The business's. */
  language: Language;
  /** The system administrator's key behind an entry; null for everybody else. */
  entered_by: number | null;
}

/** A key whose secret was right and that opens nothing any more: not a stranger. */
export interface RefusedKey {
  reason: 'revoked' | 'expired';
  business_id: BusinessId;
  key_id: KeyId;
}

/** `refused` tells the trail; whoever asked is told nothing. It is null for a key that is malformed or unknown. */
export type Authentication = { principal: Principal } | { principal: null; refused: RefusedKey | null };

export interface NewKey {
  role: KeyRole;
  /** What it is for, at most 200 characters; shown beside it, never checked. */
  label?: string | undefined;
  /** Never, when left out. */
  expires_at?: Date | undefined;
}

const KEY = /^ck_([1-9]\d{0,15})_([1-9]\d{0,15})_([A-Za-z0-9_-]{32})$/;

/**
 * Creates an API key: `ck_<business_id>_<key_id>_<secret>`. It is told here once; only the secret's hash is kept.
 * Throws `invalid_request`, also for a business that does not exist.
 */
export async function createKey(
  db: Database,
  business_id: BusinessId,
  input: NewKey,
  actor: Actor,
): Promise<ApiKey & { key: string; key_id: KeyId }> {
  return await inBusiness(db, business_id, async (tx) => {
    await readBusiness(tx);
    return await insertKey(tx, input, actor);
  });
}

/** The same inside a transaction, for a business that is known to exist; also for an entry into it. */
export async function insertKey(
  tx: Tx,
  input: NewKey | (Required<Omit<NewKey, 'role'>> & { role: 'system_admin'; entered_by: number }),
  actor: Actor,
): Promise<ApiKey & { key: string; key_id: KeyId }> {
  const secret = createSecret();
  const [row] = await tx.query<KeyRow>(
    `INSERT INTO carillon.api_keys (business_id, role, label, secret_hash, expires_at, entered_by)
     VALUES ($1, $2, $3, $4, $5, $6)
     RETURNING key_id, role, label, 'valid' AS state, created_at, expires_at, revoked_at, entered_by`,
    [
      tx.business_id,
      input.role,
      checkedLabel(input.label),
      hashSecret(secret),
      input.expires_at ?? null,
      'entered_by' in input ? input.entered_by : null,
    ],
  );
  if (!row) throw new Error('a key was inserted and has no id');
  const made = viewKey(row);
  const { role, expires_at } = made;
  // Not the label: people call keys after themselves.
  trail(tx, actor, { action: 'key.created', subject: { type: 'key', id: row.key_id }, after: { role, expires_at } });
  return { ...made, key_id: row.key_id, key: `ck_${tx.business_id}_${row.key_id}_${secret}` };
}

/** The business's keys without their secrets, newest first, entries into it included. */
export async function listKeys(
  db: Database,
  business_id: BusinessId,
  options: { after?: KeyId | undefined; limit: number },
): Promise<Page<ApiKey>> {
  const rows = await inBusiness(db, business_id, (tx) => readKeys(tx, null, options.after ?? null, options.limit + 1));
  return keysetPage(rows.map(viewKey), options.limit, (key) => String(key.key_id));
}

/**
 * Makes a key useless at once and for good; revoking again changes nothing. The last valid owner key stays: without one
 * nobody in the business could make another, and a leaked one is replaced by making its successor first. Throws
 * `key_not_found`, `last_owner_key`.
 */
export async function revokeKey(db: Database, business_id: BusinessId, key_id: KeyId, actor: Actor): Promise<ApiKey> {
  return await inBusiness(db, business_id, async (tx) => {
    // Of two owners who revoke each other's key at once, the second reads after the first has committed.
    await tx.query('SELECT 1 FROM carillon.businesses WHERE business_id = $1 FOR NO KEY UPDATE', [business_id]);
    const [key] = await readKeys(tx, key_id, null, 1);
    if (!key) throw new CarillonError('key_not_found');
    if (key.state === 'revoked') return viewKey(key);
    if (key.role === 'owner' && key.state === 'valid') await refuseLastOwner(tx, key_id);
    const [revoked] = await tx.query<{ revoked_at: Date }>(
      'UPDATE carillon.api_keys SET revoked_at = now() WHERE business_id = $1 AND key_id = $2 RETURNING revoked_at',
      [business_id, key_id],
    );
    if (!revoked) throw new Error('a key was there and could not be revoked');
    trail(tx, actor, {
      action: 'key.revoked',
      subject: { type: 'key', id: key_id },
      before: { state: key.state, role: key.role },
      after: { state: 'revoked' },
    });
    return viewKey({ ...key, state: 'revoked', revoked_at: revoked.revoked_at });
  });
}

async function refuseLastOwner(tx: Tx, key_id: KeyId): Promise<void> {
  const [other] = await tx.query(
    `SELECT 1 FROM carillon.api_keys
     WHERE business_id = $1 AND key_id <> $2 AND role = 'owner' AND revoked_at IS NULL
       AND (expires_at IS NULL OR expires_at > now()) LIMIT 1`,
    [tx.business_id, key_id],
  );
  if (!other) throw new CarillonError('last_owner_key');
}

interface KeyRow extends Omit<ApiKey, 'key_id' | 'created_at' | 'expires_at' | 'revoked_at'> {
  key_id: KeyId;
  created_at: Date;
  expires_at: Date | null;
  revoked_at: Date | null;
}

async function readKeys(tx: Tx, only: KeyId | null, after: KeyId | null, limit: number): Promise<KeyRow[]> {
  return await tx.query<KeyRow>(
    `SELECT key_id, role, label, created_at, expires_at, revoked_at, entered_by,
            CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'valid' END AS state
     FROM carillon.api_keys
     WHERE business_id = $1 AND ($2::bigint IS NULL OR key_id = $2) AND ($3::bigint IS NULL OR key_id < $3)
     ORDER BY key_id DESC LIMIT $4`,
    [tx.business_id, only, after, limit],
  );
}

function viewKey({ created_at, expires_at, revoked_at, ...key }: KeyRow): ApiKey {
  return {
    ...key,
    created_at: created_at.toISOString(),
    expires_at: expires_at?.toISOString() ?? null,
    revoked_at: revoked_at?.toISOString() ?? null,
  };
}

/** Stands in for what is not there, so that every failure takes the same way. Nobody's business, nobody's key. */
const NOBODY = {
  business_id: BusinessId.parse(Number.MAX_SAFE_INTEGER),
  key_id: KeyId.parse(Number.MAX_SAFE_INTEGER),
  secret: '',
};

/**
 * Whose key this is, or that it is none: malformed, unknown, revoked or expired; an entry's also when the administrator's
 * own key is. All of those do the same work, a look-up and a comparison in constant time, so that the time taken tells
 * no more than the answer.
 */
export async function authenticate(db: Database, key: string): Promise<Authentication> {
  const { business_id, key_id, secret } = parse(key) ?? NOBODY;
  const [row] = await inBusiness(db, business_id, (tx) =>
    tx.query<Omit<Principal, 'business_id' | 'key_id'> & { secret_hash: Buffer; state: ApiKey['state'] }>(
      `SELECT k.role, k.secret_hash, k.entered_by, b.language,
              CASE WHEN k.revoked_at IS NOT NULL OR s.revoked_at IS NOT NULL THEN 'revoked'
                   WHEN k.expires_at <= now() OR s.expires_at <= now() THEN 'expired' ELSE 'valid' END AS state
       FROM carillon.api_keys k JOIN carillon.businesses b ON b.business_id = k.business_id
       LEFT JOIN carillon.system_keys s ON s.key_id = k.entered_by
       WHERE k.business_id = $1 AND k.key_id = $2`,
      [business_id, key_id],
    ),
  );
  if (!isSecretOf(secret, row?.secret_hash) || !row) return { principal: null, refused: null };
  const { role, language, entered_by, state } = row;
  if (state !== 'valid') return { principal: null, refused: { reason: state, business_id, key_id } };
  return { principal: { business_id, key_id, role, language, entered_by } };
}

function parse(key: string) {
  const [, business, id, secret] = KEY.exec(key) ?? [];
  const business_id = BusinessId.safeParse(business);
  const key_id = KeyId.safeParse(id);
  if (!business_id.success || !key_id.success || secret === undefined) return null;
  return { business_id: business_id.data, key_id: key_id.data, secret };
}
