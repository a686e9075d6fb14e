import { BusinessId, CALLBACK_ROUTE, CallbackPath, callbackUrls, RunId, Seq } from '@carillon/contract';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const id = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const anyKey = fc.record({
  business_id: id.map((n) => BusinessId.parse(n)),
  run_id: id.map((n) => RunId.parse(n)),
  seq: fc.integer({ min: 1, max: 2_147_483_647 }).map((n) => Seq.parse(n)),
  attempt_no: fc.integer({ min: 1, max: 2_147_483_647 }),
  token: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('base64url')),
});

/** What a router makes of a path. */
function readPath(path: string): unknown {
  const names = CALLBACK_ROUTE.split('/');
  const parts = path.split('/');
  return Object.fromEntries(names.flatMap((name, at) => (name.startsWith(':') ? [[name.slice(1), parts[at]]] : [])));
}

describe('callback URLs', () => {
  it('carry the whole key there and back', () => {
    fc.assert(
      fc.property(anyKey, id, (key, carrier_account_id) => {
        const { status_url, answer_url } = callbackUrls('https://x.example/a/', 'twilio', key, carrier_account_id);
        expect(status_url).toMatch(/^https:\/\/x\.example\/a\/carriers\/twilio\/.*\/status$/);
        expect(answer_url).toBe(status_url.replace(/status$/, 'answer'));
        const read = CallbackPath.parse(readPath(status_url.slice('https://x.example/a'.length)));
        expect(read).toEqual({ ...key, driver: 'twilio', carrier_account_id });
      }),
    );
  });

  it('are not built from what could not be read back', () => {
    const key = { business_id: BusinessId.parse(1), run_id: RunId.parse(1), seq: Seq.parse(1), attempt_no: 1 };
    expect(() => callbackUrls('https://x', 'twilio', { ...key, token: 'short' }, 1)).toThrow('token');
    expect(() => callbackUrls('https://x', 'a/b', { ...key, token: 'A'.repeat(22) }, 1)).toThrow('driver');
  });

  it('are read strictly', () => {
    const good = {
      driver: 'twilio',
      business_id: '1',
      carrier_account_id: '2',
      run_id: '3',
      seq: '4',
      attempt_no: '5',
      token: 'A'.repeat(22),
    };
    expect(CallbackPath.safeParse(good).success).toBe(true);
    const wrong = ['0', '-1', '01', '1.0', '0x1', ' 1', '', '1e1', '9'.repeat(17)];
    for (const name of ['business_id', 'carrier_account_id', 'run_id', 'seq', 'attempt_no']) {
      for (const value of wrong) expect(CallbackPath.safeParse({ ...good, [name]: value }).success).toBe(false);
    }
    expect(CallbackPath.safeParse({ ...good, seq: '2147483648' }).success).toBe(false);
    expect(CallbackPath.safeParse({ ...good, attempt_no: '2147483648' }).success).toBe(false);
  });
});
