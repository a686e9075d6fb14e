import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { CarillonError } from '@carillon/contract';
import { isStorable } from './storable.ts';

const SECRET_BYTES = 24;
const NO_HASH = randomBytes(32);

/** The secret part of a key: 32 characters. */
export function createSecret(): string {
  return randomBytes(SECRET_BYTES).toString('base64url');
}

/** 192 random bits need no slow hash: there is nothing to guess. */
export function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

/** Compares in constant time, also with a hash that is not there. */
export function isSecretOf(secret: string, hash: Buffer | undefined): boolean {
  return timingSafeEqual(hashSecret(secret), hash ?? NO_HASH) && hash !== undefined;
}

/** Throws `invalid_request`. */
export function checkedLabel(text: string | undefined): string {
  const label = text?.trim() ?? '';
  if (label.length > 200 || !isStorable(label))
    throw new CarillonError('invalid_request', { problem: 'the label of a key has at most 200 characters' });
  return label;
}
