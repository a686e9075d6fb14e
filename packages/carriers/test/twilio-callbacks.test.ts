import type { CarrierRequest } from '@carillon/contract';
import fc from 'fast-check';
import twilio from 'twilio';
import { describe, expect, test } from 'vitest';
import { createCarrierDrivers } from '../src/index.ts';
import { AUTH_TOKEN, credentialsFor } from './support/wire.ts';

/** Callbacks in, TwiML out; judged by the official package, which shares no code with the driver. */

const driver = createCarrierDrivers().get('twilio')!;
const credentials = credentialsFor('https://api.twilio.com');

function request(url: string, form: Record<string, string>, signature?: string | string[]): CarrierRequest {
  return { url, form, headers: { 'x-twilio-signature': signature, host: 'elsewhere.internal' } };
}

const text = fc.string({ unit: 'grapheme', maxLength: 20 });
const forms = fc.dictionary(fc.stringMatching(/^[A-Za-z][A-Za-z0-9_]{0,12}$/), text, {
  maxKeys: 8,
  noNullPrototype: true,
});
const urls = fc
  .tuple(
    fc.constantFrom('https', 'http'),
    fc.constantFrom('calls.example.com', 'שלום.example', '127.0.0.1', '[::1]', 'user:pass@calls.example.com'),
    fc.constantFrom('', ':8443', ':443', ':80'),
    fc.constantFrom('', '/', '/webhooks/status/7/1-2/1/to_ken-', "/a%2Fb/it's/(x)?a=1&b=%20c+d", '?x=1'),
  )
  .map(([scheme, host, port, rest]) => `${scheme}://${host}${port}${rest}`);

describe('verify', () => {
  test('agrees with the official signer and validator on every URL and form', () => {
    fc.assert(
      fc.property(urls, forms, (url, form) => {
        const signature = twilio.getExpectedTwilioSignature(AUTH_TOKEN, url, form);
        expect(twilio.validateRequest(AUTH_TOKEN, signature, url, form)).toBe(true);
        expect(driver.verify(credentials, request(url, form, signature))).toBe(true);
      }),
    );
  });

  test('whatever it takes the official validator takes, also when something was changed on the way', () => {
    fc.assert(
      fc.property(urls, urls, forms, forms, text, (signed_url, url, signed_form, form, token) => {
        for (const [key, sent_url, sent_form] of [
          [AUTH_TOKEN, url, signed_form],
          [AUTH_TOKEN, signed_url, form],
          [token, signed_url, signed_form],
        ] as const) {
          const signature = twilio.getExpectedTwilioSignature(key, signed_url, signed_form);
          const official = twilio.validateRequest(AUTH_TOKEN, signature, sent_url, sent_form);
          const ours = driver.verify(credentials, request(sent_url, sent_form, signature));
          expect(ours && !official, 'taken here, refused there').toBe(false);
          // Where the URL is the signed one the two say the same, always.
          expect(sent_url === signed_url && ours !== official, 'refused here, taken there').toBe(false);
        }
      }),
      { numRuns: 300 },
    );
  });

  const URL_SIGNED = 'https://calls.example.com/webhooks/status/7/1/2/1/token';
  const FORM = { CallSid: 'CA1', CallStatus: 'ringing', To: '+972501234567', Empty: '' };
  const sign = (url: string, form: Record<string, string> = FORM, token = AUTH_TOKEN) =>
    twilio.getExpectedTwilioSignature(token, url, form);

  test('with and without the default port, as carriers and proxies differ in it', () => {
    expect(driver.verify(credentials, request(URL_SIGNED, FORM, sign(URL_SIGNED.replace('.com/', '.com:443/'))))).toBe(
      true,
    );
    const with_port = 'http://calls.example.com:80/x';
    expect(driver.verify(credentials, request(with_port, FORM, sign('http://calls.example.com/x')))).toBe(true);
    expect(driver.verify(credentials, request('http://calls.example.com/x', FORM, sign(with_port)))).toBe(true);
    expect(driver.verify(credentials, request(URL_SIGNED, FORM, sign(URL_SIGNED.replace('.com/', '.com:444/'))))).toBe(
      false,
    );
  });

  test('also where the carrier signs the fragment that it was asked to retry with', () => {
    expect(driver.verify(credentials, request(URL_SIGNED, FORM, sign(`${URL_SIGNED}#rc=5&rp=all`)))).toBe(true);
    expect(driver.verify(credentials, request(URL_SIGNED, FORM, sign(`${URL_SIGNED}#other`)))).toBe(false);
  });

  test('nothing is taken but the signature', () => {
    const good = sign(URL_SIGNED);
    expect(driver.verify(credentials, request(URL_SIGNED, FORM, good))).toBe(true);
    const refused: [string, CarrierRequest][] = [
      ['no header', request(URL_SIGNED, FORM, undefined)],
      ['an empty header', request(URL_SIGNED, FORM, '')],
      ['two headers', request(URL_SIGNED, FORM, [good, good])],
      ['another token', request(URL_SIGNED, FORM, sign(URL_SIGNED, FORM, 'other'))],
      ['a shorter signature', request(URL_SIGNED, FORM, good.slice(0, -1))],
      ['a longer one', request(URL_SIGNED, FORM, `${good}=`)],
      ['another case', request(URL_SIGNED, FORM, good.toLowerCase())],
      ['a changed field', request(URL_SIGNED, { ...FORM, CallStatus: 'completed' }, good)],
      ['a field more', request(URL_SIGNED, { ...FORM, Extra: '1' }, good)],
      ['another path', request(URL_SIGNED.replace('/7/', '/8/'), FORM, good)],
      ['no URL', request('calls.example.com/webhooks', FORM, sign('calls.example.com/webhooks'))],
    ];
    for (const [what, one] of refused) expect(driver.verify(credentials, one), what).toBe(false);
    const keyless = { ...credentials, auth_token: '' };
    expect(driver.verify(keyless, request(URL_SIGNED, FORM, sign(URL_SIGNED, FORM, '')))).toBe(false);
  });
});

describe('readEvent', () => {
  const read = (form: Record<string, string>) => driver.readEvent(request('https://calls.example.com/', form));
  const nothing = { outcome: null, duration_s: null, created_at_s: null, cause: null };

  test('each status change', () => {
    const form = { CallSid: 'CA1', AccountSid: 'AC1', To: '+1', SequenceNumber: '2', Timestamp: 'whenever' };
    expect(read({ ...form, CallStatus: 'initiated' })).toEqual({ call_id: 'CA1', phase: 'queued', ...nothing });
    expect(read({ ...form, CallStatus: 'ringing' })).toEqual({ call_id: 'CA1', phase: 'ringing', ...nothing });
    expect(read({ ...form, CallStatus: 'in-progress' })).toEqual({ call_id: 'CA1', phase: 'in_call', ...nothing });
    const ended = { ...form, CallDuration: '17', Duration: '1', SipResponseCode: '200' };
    expect(read({ ...ended, CallStatus: 'completed', AnsweredBy: 'human' })).toEqual({
      call_id: 'CA1',
      phase: 'ended',
      ...nothing,
      outcome: 'completed',
      duration_s: 17,
    });
    expect(read({ ...ended, CallStatus: 'completed', AnsweredBy: 'machine_end_beep' })?.outcome).toBe('voicemail');
  });

  test('why a call failed', () => {
    const failed = { CallSid: 'CA1', CallStatus: 'failed', CallDuration: '0' };
    expect(read({ ...failed, SipResponseCode: '404' })).toMatchObject({ outcome: 'failed', cause: 'sip_404' });
    expect(read({ ...failed, SipResponseCode: '404', ErrorCode: '13224' })).toMatchObject({ cause: 'code_13224' });
    expect(read({ ...failed, CallStatus: 'busy', SipResponseCode: '486' })).toMatchObject({
      outcome: 'busy',
      cause: 'sip_486',
    });
    expect(read({ ...failed, SipResponseCode: 'call +972501234567' })).toMatchObject({ cause: null, duration_s: 0 });
  });

  test('what is no status callback', () => {
    for (const form of [
      {},
      { CallSid: 'CA1' },
      { CallStatus: 'ringing' },
      { CallSid: 'CA1', CallStatus: 'sleeping' },
      { CallSid: 'CA1', CallStatus: 'toString' },
      { CallSid: 'CA1/../../x', CallStatus: 'ringing' },
      { CallSid: 'x'.repeat(65), CallStatus: 'ringing' },
      { MessageSid: 'SM1', MessageStatus: 'sent' },
    ]) {
      expect(read(form as Record<string, string>)).toBe(null);
    }
  });
});

describe('TwiML', () => {
  test('says the text as the official package would write it', () => {
    const words = fc.string({
      unit: fc.constantFrom(...'abc אבג&<>"\'\n\t;]#x0-', '&amp;', ']]>', '🎉'),
      minLength: 1,
      maxLength: 40,
    });
    fc.assert(
      fc.property(words, fc.constantFrom('he-IL', 'en-US'), (say, language) => {
        const official = new twilio.twiml.VoiceResponse();
        official.say({ language }, say);
        const { body, content_type } = driver.answer({ say, language });
        // Quotes need no escape in a text; both spellings are the same document.
        const unquoted = body.replaceAll(/&(quot|apos);/g, (_entity, name) => (name === 'quot' ? '"' : "'"));
        expect(unquoted).toBe(official.toString());
        expect(content_type).toBe('text/xml; charset=utf-8');
      }),
    );
  });

  test('nothing gets out of its place', () => {
    const { body } = driver.answer({ say: '</Say><Dial>+1900</Dial><Say>', language: '" voice="x' });
    expect(body).not.toContain('<Dial>');
    expect(body).toContain('<Say language="&quot; voice=&quot;x">&lt;/Say&gt;&lt;Dial&gt;');
  });

  test('characters that XML has no place for are left out', () => {
    const { body } = driver.answer({ say: 'a\u0000b\u0008c\uD800d\uFFFEe\nf', language: 'he-IL' });
    expect(body).toContain('>abc\uFFFDde\nf</Say>');
  });

  test('hangs up at once', () => {
    const official = new twilio.twiml.VoiceResponse();
    official.hangup();
    expect(driver.hangUpAnswer()).toEqual({ content_type: 'text/xml; charset=utf-8', body: official.toString() });
  });
});

describe('capabilities', () => {
  test('are what the installation assumes of its carriers', () => {
    expect(driver.capabilities(credentials)).toEqual({
      effect_delay_ms: 120_000,
      listing_delay_ms: 60_000,
      expiring_create: false,
      hang_up_while_queued: true,
      created_at_resolution_ms: 1000,
    });
    const careful = createCarrierDrivers({ effect_delay_ms: null, listing_delay_ms: 5 }).get('twilio')!;
    expect(careful.capabilities(credentials)).toMatchObject({ effect_delay_ms: null, listing_delay_ms: 5 });
    const undefined_is_default = createCarrierDrivers({ effect_delay_ms: undefined }).get('twilio')!;
    expect(undefined_is_default.capabilities(credentials).effect_delay_ms).toBe(120_000);
    expect(() => createCarrierDrivers({ connect_timeout_ms: 0 })).toThrow(/connect_timeout_ms/);
    expect([...createCarrierDrivers().keys()]).toEqual(['twilio', 'canary']);
  });
});
