import { z } from 'zod';
import { BusinessId, CarrierAccountId, RunId, Seq } from './ids.ts';

/**
 * The URLs that a carrier is given with each call. They carry the attempt's whole key beside its token, so that an
 * event finds its row by primary key, in whichever process it arrives.
 */

/** Decimal digits and nothing else: plain coercion would also read `0x10` or a blank. */
function decimal<T extends z.ZodType<number>>(id: T) {
  return z
    .string()
    .regex(/^[1-9]\d{0,15}$/)
    .transform((text): unknown => Number(text))
    .pipe(id);
}

/** 128 random bits in base64url. */
const Token = z.string().regex(/^[A-Za-z0-9_-]{22}$/);

/** The path's parameters, as text. One that doesn't parse leads nowhere. */
export const CallbackPath = z.object({
  driver: z.string().regex(/^[a-z0-9-]{1,40}$/),
  business_id: decimal(BusinessId),
  carrier_account_id: decimal(CarrierAccountId),
  run_id: decimal(RunId),
  seq: decimal(Seq),
  attempt_no: decimal(z.number().max(2_147_483_647)),
  token: Token,
});
export type CallbackPath = z.output<typeof CallbackPath>;

/** What follows the public URL, with the parameters named as routers name them. */
export const CALLBACK_ROUTE =
  '/carriers/:driver/:business_id/:carrier_account_id/:run_id/:seq/:attempt_no/:token' as const;

/** Builds both URLs of an attempt. Throws a ZodError for a key that could not be read back. */
export function callbackUrls(
  public_url: string,
  driver: string,
  key: { business_id: BusinessId; run_id: RunId; seq: Seq; attempt_no: number; token: string },
  carrier_account_id: number,
): { status_url: string; answer_url: string } {
  const { business_id, run_id, seq, attempt_no, token } = key;
  const parts = { driver, business_id, carrier_account_id, run_id, seq, attempt_no, token };
  const texts = Object.fromEntries(Object.entries(parts).map(([name, value]) => [name, String(value)]));
  CallbackPath.parse(texts);
  const path = CALLBACK_ROUTE.replace(/:(\w+)/g, (_, name: string) => texts[name] ?? '');
  const base = public_url.replace(/\/+$/, '') + path;
  return { status_url: `${base}/status`, answer_url: `${base}/answer` };
}
