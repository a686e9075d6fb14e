import { createHash, sign } from 'node:crypto';
import { promisify } from 'node:util';
import type { CarrierCredentials } from '@carillon/contract';

/**
 * Public Key Client Validation: a JWT in a header of each request, signed with the account's private key. It names the
 * request by a hash and expires, so that a create which is stopped or held up on its way makes no call after its time.
 */

/** Beside the threads of the event loop: a signature takes a millisecond, and other calls are being paced meanwhile. */
const signLater = promisify(sign);

export interface SignedRequest {
  method: 'GET' | 'POST';
  url: URL;
  authorization: string;
  /** As it will be sent; null for none. */
  body: string | null;
}

/** The token for one request of an account that has a key, refused by the carrier from `expires_at_ms` on. */
export async function validationToken(
  request: SignedRequest,
  { account_sid, client_validation }: CarrierCredentials,
  expires_at_ms: number,
): Promise<string> {
  if (!client_validation) throw new Error('an account without a key can not sign');
  const { credential_sid, signing_key_sid, private_key_pem } = client_validation;
  const header = { typ: 'JWT', alg: 'RS256', cty: 'twilio-pkrv;v=1', kid: credential_sid };
  const claims = {
    iss: signing_key_sid,
    sub: account_sid,
    // Whole seconds, and never before what was asked for: a create that is in time must not be refused.
    exp: Math.ceil(expires_at_ms / 1_000),
    hrh: SIGNED_HEADERS,
    rqh: requestHash(request),
  };
  const signed = `${part(header)}.${part(claims)}`;
  const signature = await signLater('sha256', Buffer.from(signed), private_key_pem);
  return `${signed}.${signature.toString('base64url')}`;
}

const SIGNED_HEADERS = 'authorization;host';
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const encode = (text: string) => encodeURIComponent(decodeURIComponent(text)).replaceAll('*', '%2A');

/** Over method, path, query, the named headers and the body, each in the carrier's canonical form. */
function requestHash({ method, url, authorization, body }: SignedRequest): string {
  const path = url.pathname.replaceAll(/\/+/g, '/').split('/').map(encode).join('/');
  const query = [...url.searchParams].map(([name, value]) => `${name}=${value}`).sort();
  const parameters = query.map((pair) => {
    const at = pair.indexOf('=');
    return `${encodeURIComponent(pair.slice(0, at))}=${encodeURIComponent(pair.slice(at + 1))}`.replaceAll('*', '%2A');
  });
  const lines = [method, path, parameters.join('&'), `authorization:${authorization}`, `host:${url.host}`, ''];
  return sha256([...lines, SIGNED_HEADERS, body === null ? '' : sha256(body)].join('\n'));
}
