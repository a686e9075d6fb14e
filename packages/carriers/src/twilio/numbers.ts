/**
 * A listed number in E.164; null for what no lead has: an address of another kind (sip:, client:), a short code.
 * `unreadable` for masked digits and national forms, of which nobody can say whose they are.
 */
export function asE164(listed: string): string | null | 'unreadable' {
  if (/^[a-z]+:/i.test(listed)) return null;
  const compact = listed.replace(/[\s().\-\u2010-\u2015]/g, '');
  if (/^\d{1,6}$/.test(compact)) return null;
  const digits = /^(?:\+|00)?([1-9]\d{5,14})$/.exec(compact)?.[1];
  return digits === undefined ? 'unreadable' : `+${digits}`;
}

/**
 * Is the number that a listing shows the one that was called? Compared as digits, since carriers write the same number
 * in several ways. `unreadable` (empty, masked digits) is not "another": a call that can't be told apart from the
 * wanted one must not count as absent.
 */
export function compareNumbers(listed: string, wanted_e164: string): 'same' | 'other' | 'unreadable' {
  // An address of another kind: sip:, client:, whatsapp:.
  if (/^[a-z]+:/i.test(listed)) return 'other';
  const compact = listed.replace(/[\s().\-\u2010-\u2015]/g, '');
  if (!/^\+?\d+$/.test(compact)) return 'unreadable';
  const wanted = wanted_e164.replace(/\D/g, '');
  if (compact.startsWith('+')) return compact.slice(1) === wanted ? 'same' : 'other';
  if (compact === wanted || compact === `00${wanted}`) return 'same';
  // National form: without a country the digits after the trunk zeros must do. Too many candidates are a case for
  // review, one too few would be a second call.
  const national = compact.replace(/^0+/, '');
  return national.length >= 6 && wanted.endsWith(national) ? 'same' : 'other';
}
