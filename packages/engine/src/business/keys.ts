import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { BusinessId, CarillonError, KeyId, type Language, type Role } from '@carillon/contract';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { readBusiness } from './business.ts';
import { isStorable } from './storable.ts';

/** Who came in with a key. A system administrator is a person and has none. */
export interface Principal {
  business_id: BusinessId;
  role: KeyRole;
  key_id: KeyId;
  /** The business's. */
  language: Language;
}

export type KeyRole = Exclude<Role, 'system_admin'>;

export interface NewKey {
  role: KeyRole;
  /** What it is for, at most 200 characters; shown beside it, never checked. */
  label?: string | undefined;
  /** Never, when left out. */
  expires_at?: Date | undefined;
}

const SECRET_BYTES = 24;
const KEY = /^ck_([1-9]\d{0,15})_([1-9]\d{0,15})_([A-Za-z0-9_-]{32})$/;

/**
 * Creates an API key: `ck_<business_id>_<key_id>_<secret>`. It is told here once; only the secret's hash is kept.
 * Throws `invalid_request`, also for a business that does not exist.
 */
export async function createKey(
  db: Database,
  business_id: BusinessId,
  input: NewKey,
): Promise<{ key: string; key_id: KeyId }> {
  return await inBusiness(db, business_id, async (tx) => {
    await readBusiness(tx);
    return await insertKey(tx, input);
  });
}

/** The same inside a transaction, for a business that is known to exist. */
export async function insertKey(tx: Tx, input: NewKey): Promise<{ key: string; key_id: KeyId }> {
  const label = input.label?.trim() ?? '';
  if (label.length > 200 || !isStorable(label))
    throw new CarillonError('invalid_request', { problem: 'the label of a key has at most 200 characters' });
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  const [row] = await tx.query<{ key_id: KeyId }>(
    `INSERT INTO carillon.api_keys (business_id, role, label, secret_hash, expires_at)
     VALUES ($1, $2, $3, $4, $5) RETURNING key_id`,
    [tx.business_id, input.role, label, hash(secret), input.expires_at ?? null],
  );
  if (!row) throw new Error('a key was inserted and has no id');
  return { key: `ck_${tx.business_id}_${row.key_id}_${secret}`, key_id: row.key_id };
}

/** Stands in for what is not there, so that every failure takes the same way. Nobody's business, nobody's key. */
const NOBODY = {
  business_id: BusinessId.parse(Number.MAX_SAFE_INTEGER),
  key_id: KeyId.parse(Number.MAX_SAFE_INTEGER),
  secret: '',
};
const NO_HASH = randomBytes(32);

/**
 * Whose key this is; null when it is malformed, unknown, revoked or expired. All of those do the same work, a look-up
 * and a comparison in constant time, so that the time taken tells no more than the answer.
 */
export async function authenticate(db: Database, key: string): Promise<Principal | null> {
  const { business_id, key_id, secret } = parse(key) ?? NOBODY;
  const [row] = await inBusiness(db, business_id, (tx) =>
    tx.query<{ role: KeyRole; secret_hash: Buffer; language: Language; valid: boolean }>(
      `SELECT k.role, k.secret_hash, b.language,
              k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()) AS valid
       FROM carillon.api_keys k JOIN carillon.businesses b ON b.business_id = k.business_id
       WHERE k.business_id = $1 AND k.key_id = $2`,
      [business_id, key_id],
    ),
  );
  const same = timingSafeEqual(hash(secret), row?.secret_hash ?? NO_HASH);
  return row && same && row.valid ? { business_id, key_id, role: row.role, language: row.language } : null;
}

/** Makes a key useless at once and for good. False when the business has no such key; revoking again changes nothing. */
export async function revokeKey(db: Database, business_id: BusinessId, key_id: KeyId): Promise<boolean> {
  const rows = await inBusiness(db, business_id, (tx) =>
    tx.query(
      `UPDATE carillon.api_keys SET revoked_at = coalesce(revoked_at, now())
       WHERE business_id = $1 AND key_id = $2 RETURNING key_id`,
      [business_id, key_id],
    ),
  );
  return rows.length === 1;
}

function parse(key: string) {
  const [, business, id, secret] = KEY.exec(key) ?? [];
  const business_id = BusinessId.safeParse(business);
  const key_id = KeyId.safeParse(id);
  if (!business_id.success || !key_id.success || secret === undefined) return null;
  return { business_id: business_id.data, key_id: key_id.data, secret };
}

/** 192 random bits need no slow hash: there is nothing to guess. */
function hash(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}
