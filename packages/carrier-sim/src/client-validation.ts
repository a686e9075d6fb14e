import { createHash, verify } from 'node:crypto';
import { z } from 'zod';
import { US_PER_S } from './clock.ts';
import { ApiError } from './errors.ts';

/**
 * Public Key Client Validation: a request bears a JWT, signed with the customer's private key, that names the request
 * by hash and expires. Checked at the moment when the call would be made, so that a create which was stopped or
 * delayed on its way can't become a call after its time.
 */

const jsonPart = z.string().transform((text, context) => {
  try {
    return JSON.parse(Buffer.from(text, 'base64url').toString('utf8')) as unknown;
  } catch {
    context.addIssue('not JSON');
    return z.NEVER;
  }
});
const header = jsonPart.pipe(z.looseObject({ alg: z.literal('RS256'), cty: z.literal('twilio-pkrv;v=1') }));
const payload = jsonPart.pipe(
  z.looseObject({ sub: z.string(), exp: z.number(), nbf: z.number().optional(), hrh: z.string(), rqh: z.string() }),
);

export interface ValidatedRequest {
  method: string;
  /** As sent, with its query. */
  url: string;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

/** Throws ApiError 20003 (401) unless the token is signed, names this account and request, and has not expired. */
export function validateClient(
  token: string | undefined,
  request: ValidatedRequest,
  expected: { account: string; public_key_pem: string; now_us: number },
): void {
  const reason = refusal(token, request, expected);
  if (reason !== null) throw new ApiError(20003, { message: `Twilio-Client-Validation refused: ${reason}` });
}

function refusal(
  token: string | undefined,
  request: ValidatedRequest,
  { account, public_key_pem, now_us }: { account: string; public_key_pem: string; now_us: number },
): string | null {
  if (!token) return 'the header is missing';
  const [head = '', claims = '', signature = '', ...more] = token.split('.');
  const read = payload.safeParse(claims);
  if (more.length > 0 || !header.safeParse(head).success || !read.success) return 'the token can not be read';
  const signed = Buffer.from(`${head}.${claims}`);
  if (!verify('sha256', signed, public_key_pem, Buffer.from(signature, 'base64url'))) return 'the signature is wrong';
  const { sub, exp, nbf, hrh, rqh } = read.data;
  if (sub !== account) return 'the token names another account';
  if (now_us >= exp * US_PER_S) return 'the token has expired';
  if (nbf !== undefined && now_us < nbf * US_PER_S) return 'the token is not valid yet';
  if (requestHash(request, hrh.split(';')) !== rqh) return 'the token names another request';
  return null;
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const encode = (text: string) => encodeURIComponent(decodeURIComponent(text)).replaceAll('*', '%2A');

/** The hash over method, path, query, the named headers and the body, in the carrier's canonical form. */
function requestHash({ method, url, headers, body }: ValidatedRequest, names: string[]): string {
  const [path = '', query = ''] = url.split('?');
  const encodedPath = path.replaceAll(/\/+/g, '/').split('/').map(encode).join('/');
  const parameters = query === '' ? [] : query.split('&').map((pair) => pair.split('=').map(encode).join('='));
  const sortedNames = names.map((name) => name.toLowerCase()).sort();
  const lines = sortedNames.map((name) => `${name}:${String(headers[name] ?? '').trim()}`);
  return sha256(
    [
      method.toUpperCase(),
      encodedPath,
      parameters.sort().join('&'),
      `${lines.join('\n')}\n`,
      sortedNames.join(';'),
      body === '' ? '' : sha256(body),
    ].join('\n'),
  );
}
