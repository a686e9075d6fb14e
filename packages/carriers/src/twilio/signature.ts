import { createHmac, timingSafeEqual } from 'node:crypto';
import type { CarrierRequest } from '@carillon/contract';
import { RETRIES_FRAGMENT } from './place.ts';

/**
 * `X-Twilio-Signature`: base64 of HMAC-SHA1, keyed with the account's token, over the public URL and each form field's
 * name and value, sorted by name. As the official validator does, the URL counts with and without its port, because
 * carriers and proxies differ in that; also with the fragment that we ask for retries with, which is no part of any
 * HTTP request but of the URL that the carrier was given.
 */
export function isSigned(request: CarrierRequest, auth_token: string): boolean {
  const signature = request.headers['x-twilio-signature'];
  // Without a key anybody could sign.
  if (typeof signature !== 'string' || auth_token === '') return false;
  const given = Buffer.from(signature, 'utf8');
  const fields = Object.keys(request.form)
    .sort()
    .map((name) => name + request.form[name])
    .join('');
  return signedUrls(request.url).some((url) => {
    const expected = Buffer.from(
      createHmac('sha1', auth_token)
        .update(url + fields, 'utf8')
        .digest('base64'),
      'utf8',
    );
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

/** The URL's spellings. Cut as text: parsing would rewrite characters that were signed as they stand. */
function signedUrls(url: string): string[] {
  const [, scheme, host, port, rest] = /^(https?:\/\/)([^/?#]*?)(:\d+)?([/?#].*)?$/i.exec(url) ?? [];
  if (scheme === undefined) return [];
  const default_port = scheme.toLowerCase() === 'https://' ? ':443' : ':80';
  const without_port = scheme + host + (rest ?? '');
  const with_port = scheme + host + (port ?? default_port) + (rest ?? '');
  return [without_port, with_port].flatMap((spelling) => [spelling, spelling + RETRIES_FRAGMENT]);
}
