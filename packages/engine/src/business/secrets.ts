import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import type { BusinessId, CarrierAccountId } from '@carillon/contract';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;

/**
 * Seals a carrier account's secret: nonce, tag and AES-256-GCM ciphertext in one. Business and account are
 * authenticated with it, so a ciphertext copied to another row does not open there. `secret_key` is 32 bytes.
 */
export function sealSecret(
  secret_key: Buffer,
  business_id: BusinessId,
  carrier_account_id: CarrierAccountId,
  text: string,
): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', checked(secret_key), nonce);
  cipher.setAAD(owner(business_id, carrier_account_id));
  const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
}

/** The secret again. Throws when key, business or account is another one, or a bit of it has changed. */
export function openSecret(
  secret_key: Buffer,
  business_id: BusinessId,
  carrier_account_id: CarrierAccountId,
  sealed: Buffer,
): string {
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const tag = sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
  try {
    const decipher = createDecipheriv('aes-256-gcm', checked(secret_key), nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(owner(business_id, carrier_account_id));
    decipher.setAuthTag(tag);
    return decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
  } catch (error) {
    throw new Error(
      `The secret of carrier account ${carrier_account_id} does not open: CARILLON_SECRET is not the one that it was sealed with`,
      { cause: error },
    );
  }
}

function owner(business_id: BusinessId, carrier_account_id: CarrierAccountId): Buffer {
  return Buffer.from(`carrier_account:${business_id}:${carrier_account_id}`);
}

function checked(secret_key: Buffer): Buffer {
  if (secret_key.length !== KEY_BYTES)
    throw new TypeError(`a secret key has ${KEY_BYTES} bytes, not ${secret_key.length}`);
  return secret_key;
}
