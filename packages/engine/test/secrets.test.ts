import { randomBytes } from 'node:crypto';
import { BusinessId, CarrierAccountId } from '@carillon/contract';
import { describe, expect, it } from 'vitest';
import { openSecret, sealSecret } from '../src/business/secrets.ts';

const key = randomBytes(32);
const [one, two] = [BusinessId.parse(1), BusinessId.parse(2)];
const [account, other] = [CarrierAccountId.parse(7), CarrierAccountId.parse(8)];

describe('a sealed secret', () => {
  it.each(['', 'a', 'סוד', 'x'.repeat(500)])('opens as what it was: %s', (text) => {
    expect(openSecret(key, one, account, sealSecret(key, one, account, text))).toBe(text);
  });

  it('looks different each time, and like nothing that is in it', () => {
    const [first, second] = [sealSecret(key, one, account, 'secret'), sealSecret(key, one, account, 'secret')];
    expect(first.equals(second)).toBe(false);
    expect(first.includes('secret')).toBe(false);
  });

  it('opens for no other business, account or key, and says which setting to look at', () => {
    const sealed = sealSecret(key, one, account, 'secret');
    expect(() => openSecret(key, two, account, sealed)).toThrow('does not open');
    expect(() => openSecret(key, one, other, sealed)).toThrow('does not open');
    expect(() => openSecret(randomBytes(32), one, account, sealed)).toThrow(/carrier account 7 .* CARILLON_SECRET/);
  });

  it('does not open with any bit changed, nor cut short', () => {
    const sealed = sealSecret(key, one, account, 'secret');
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Buffer.from(sealed);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => openSecret(key, one, account, changed), `bit ${bit}`).toThrow('does not open');
    }
    for (let length = 0; length < sealed.length; length++)
      expect(() => openSecret(key, one, account, sealed.subarray(0, length)), `${length} bytes`).toThrow(
        'does not open',
      );
  });

  it('takes a key of 32 bytes only', () => {
    expect(() => sealSecret(randomBytes(16), one, account, 'secret')).toThrow('32 bytes');
  });
});
