import { describe, expect, test } from 'vitest';
import { clientOf, ended, FROM, startCustomer, startSim, TO, until } from './harness.ts';
import type { Reply } from './harness.ts';

/** A customer whose pages are given by path; a call to it, and the call's end. */
async function play(pages: Record<string, string | Reply>, behaviour: Parameters<typeof startSim>[0] = {}) {
  const sim = await startSim(behaviour);
  const customer = await startCustomer(({ path }) => {
    const page = pages[path] ?? { status: 404 };
    return typeof page === 'string' ? { body: page } : page;
  });
  const { sid } = await clientOf(sim).calls.create({ to: TO, from: FROM, url: `${customer.url}/answer` });
  const entry = await ended(sim, sid);
  const [answered_us = 0, over_us = 0] = entry.statuses.slice(-2).map(({ at_us }) => at_us);
  return { customer, entry, talked_ms: (over_us - answered_us) / 1000 };
}

const response = (verbs: string) => `<?xml version="1.0" encoding="UTF-8"?><Response>${verbs}</Response>`;
const long = { default: { talk_ms: 60_000 } };

describe('following instructions', () => {
  test.each(['<Hangup/>', '<Reject/>', '', '<Hangup/><Say>never said</Say>', '<!-- nothing --><Record/>'])(
    '%s ends the call at once',
    async (verbs) => {
      const { entry, talked_ms } = await play({ '/answer': response(verbs) }, long);
      expect(talked_ms).toBeLessThan(5000);
      expect(entry.warning).toBeNull();
    },
  );

  test('the talking time is what the behaviour says, however many verbs share it', async () => {
    const verbs = '<Say>שלום</Say><Play>http://x/a.mp3</Play><Pause length="60"/><Dial>+15005550006</Dial>';
    const { talked_ms } = await play({ '/answer': response(verbs) }, { default: { talk_ms: 400 } });
    expect(talked_ms).toBeGreaterThanOrEqual(395);
    // Four verbs, each for the whole time, would take four times as long.
    expect(talked_ms).toBeLessThan(1500);
  });

  test('keys that the person presses are posted to the action, signed; the rest of the document is skipped', async () => {
    const gather =
      '<Gather numDigits="1" action="/pressed?a=1&amp;b=2"><Say>Press 9</Say></Gather><Redirect>/no</Redirect>';
    const { customer } = await play(
      { '/answer': response(gather), '/pressed': response('<Gather action="/more"/>'), '/more': response('<Hangup/>') },
      { numbers: { [TO]: { digits: '912#4' } } },
    );
    expect(customer.received.map(({ path }) => path)).toEqual(['/answer', '/pressed', '/more']);
    expect(customer.received.every(({ signed }) => signed)).toBe(true);
    expect(customer.to('/pressed')[0]?.params).toMatchObject({ Digits: '9', FinishedOnKey: '', To: TO });
    expect(customer.to('/more')[0]?.params).toMatchObject({ Digits: '12', FinishedOnKey: '#' });
  });

  test('where nobody presses a key, the document goes on, or the action is asked for with no keys', async () => {
    const silent = await play({
      '/answer': response('<Gather action="/pressed"/><Redirect method="GET">/next</Redirect>'),
      '/next': response('<Gather action="/empty" actionOnEmptyResult="true"/>'),
      '/empty': response(''),
    });
    expect(silent.customer.received.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'POST /answer',
      'GET /next',
      'POST /empty',
    ]);
    expect(silent.customer.to('/empty')[0]?.params.Digits).toBe('');
  });

  test('a machine presses no keys', async () => {
    const { customer } = await play(
      { '/answer': response('<Gather action="/pressed"/>') },
      { default: { digits: '1', outcomes: { voicemail: 1 } } },
    );
    expect(customer.received).toHaveLength(1);
  });

  test('Dial, Connect and Record go on at their action', async () => {
    const { customer } = await play({
      '/answer': response('<Dial action="/dialled">+15005550006</Dial>'),
      '/dialled': response('<Connect action="/connected"><Stream url="wss://example.org"/></Connect>'),
      '/connected': response('<Record action="/recorded"/>'),
      '/recorded': response('<Hangup/>'),
    });
    expect(customer.received.map(({ path }) => path)).toEqual(['/answer', '/dialled', '/connected', '/recorded']);
    expect(customer.to('/dialled')[0]?.params.DialCallStatus).toBe('completed');
  });

  test('after Dial and Connect without an action the next verb is followed', async () => {
    const { customer } = await play({
      '/answer': response('<Dial>+15005550006</Dial><Connect/><Unknown/><Redirect>/next</Redirect>'),
      '/next': response('<Hangup/>'),
    });
    expect(customer.received.map(({ path }) => path)).toEqual(['/answer', '/next']);
  });
});

describe('an answer that can not be followed ends the call, completed and short, and the ledger says why', () => {
  test.each<[string, Reply, number]>([
    ['an error', { status: 500 }, 11200],
    ['not there', { status: 404 }, 11200],
    ['a redirect', { status: 302 }, 11200],
    ['a cut connection', { reset: true }, 11200],
    ['not XML by its type', { type: 'application/json', body: '{}' }, 12300],
    ['cut short', { body: '<Response><Say>Hello' }, 12100],
    ['another document', { body: '<html></html>' }, 12100],
    ['too large', { body: response(`<Say>${'x'.repeat(70_000)}</Say>`) }, 11200],
    ['for ever the same', { body: response('<Redirect/>') }, 12400],
    ['leading nowhere', { body: response('<Redirect>ftp://x/</Redirect>') }, 11100],
  ])('%s', async (_what, page, code) => {
    const { entry, talked_ms } = await play({ '/answer': page }, long);
    expect(entry.warning?.code).toBe(code);
    expect(talked_ms).toBeLessThan(5000);
  });

  test('nobody listening', async () => {
    const sim = await startSim(long);
    const customer = await startCustomer();
    await new Promise((resolve) => customer.server.close(resolve));
    const { sid } = await clientOf(sim).calls.create({ to: TO, from: FROM, url: `${customer.url}/answer#rc=0` });
    expect((await ended(sim, sid)).warning).toMatchObject({
      code: 11200,
      message: expect.stringContaining('ECONNREFUSED'),
    });
  });
});

test('a call that was hung up while its answer was under way does not come back to life', async () => {
  const sim = await startSim(long);
  let answer = (_reply: Reply) => {};
  const customer = await startCustomer(() => new Promise<Reply>((resolve) => (answer = resolve)));
  const client = clientOf(sim);
  const { sid } = await client.calls.create({ to: TO, from: FROM, url: `${customer.url}/answer` });
  await until('the question', () => customer.received.length === 1);
  await client.calls(sid).update({ status: 'completed' });
  answer({ body: response('<Redirect>/next</Redirect>') });
  await until('the answer', async () => (await client.calls(sid).events.list()).length === 1);
  const entry = await ended(sim, sid);
  expect(entry.statuses.filter(({ status }) => status === 'completed')).toHaveLength(1);
  expect(customer.to('/next')).toEqual([]);
});
