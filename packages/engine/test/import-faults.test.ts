import { type BusinessId, ImportId, ListId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createBusiness } from '../src/business/create-business.ts';
import { importLeads } from '../src/lead/import.ts';
import { touchImport } from '../src/lead/import-state.ts';
import { createList, listListLeads } from '../src/lead/lists.ts';
import { actor, createFixture, type Fixture } from './support/fixture.ts';
import { csv, linesOf, membersOf, number } from './support/leads.ts';

let fixture: Fixture;
let business_id: BusinessId;
beforeAll(async () => {
  fixture = await createFixture();
  business_id = (await createBusiness(fixture.db, { name: 'ours' }, actor)).business_id;
});
afterAll(async () => await fixture.close());

const newList = async () => ListId.parse((await createList(fixture.db, business_id, { name: 'list' }, actor)).list_id);
// What comes slowly is looked at as soon as there is a little of it.
const limits = { import_batch_lines: 10, import_sample_bytes: 60 };
const load = (list_id: ListId, source: AsyncIterable<Buffer>, options = {}) =>
  importLeads(fixture.db, business_id, list_id, source, { actor, limits, ...options });

/** 35 lines: 30 leads, two that repeat, three that are none. */
const rows = Array.from({ length: 35 }, (_, n) =>
  n % 10 === 9 ? 'none' : `0${501_002_000 + (n % 16 === 15 ? 1 : n)}`,
);
const FILE = `phone\n${rows.join('\n')}\n`;
const whole = { lines: 35, accepted: 30, duplicates: 2, rejected: 3 };

const stateOf = async (list_id: ListId) => {
  const [row] = await fixture.rows(
    `SELECT l.leads, l.import_id, i.state, i.error,
            (SELECT count(*)::int FROM carillon.list_members m WHERE m.list_id = l.list_id) AS rows
     FROM carillon.lists l JOIN carillon.list_imports i USING (business_id, list_id)
     WHERE list_id = $1 ORDER BY i.import_id DESC LIMIT 1`,
    [list_id],
  );
  return row;
};

/** The file's first `lines` lines, then whatever `then` waits for, then the rest of `text`. */
async function* upTo(lines: number, then: () => Promise<unknown>, text: string | Buffer = FILE) {
  const head = Buffer.from(`${FILE.split('\n').slice(0, lines).join('\n')}\n`);
  yield head;
  await then();
  yield Buffer.from(text as string).subarray(head.length);
}

/** An import whose source goes on with `rest` once two batches are in the database. */
function loadThen(list_id: ListId, rest: () => void, text?: string | Buffer) {
  const written = Promise.withResolvers<void>();
  let batches = 0;
  return load(
    list_id,
    upTo(25, () => written.promise.then(rest), text),
    {
      onProgress: () => {
        if (++batches === 2) written.resolve();
      },
    },
  );
}

/** An import that has written two batches and then hears nothing more, until it is woken; that gives its end. */
async function fallSilent(list_id: ListId, options = {}) {
  const [written, woken] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let batches = 0;
  const onProgress = () => {
    if (++batches === 2) written.resolve();
  };
  const end = load(
    list_id,
    upTo(25, () => woken.promise),
    { ...options, onProgress },
  ).catch((error: unknown) => error);
  await written.promise;
  return {
    wake: async () => {
      woken.resolve();
      return await end;
    },
  };
}

const fail = () => {
  throw new Error('connection reset');
};
const breaks: Record<string, (list_id: ListId) => Promise<unknown>> = {
  'a source that breaks off': (list_id) => loadThen(list_id, fail),
  'an error between two batches': (list_id) => {
    let batches = 0;
    return load(list_id, csv(FILE), { onProgress: () => ++batches === 2 && fail() });
  },
  'a byte that is no text, at the end': (list_id) =>
    loadThen(list_id, () => {}, Buffer.concat([Buffer.from(`${FILE}${'ש'.repeat(50)}\n`), Buffer.from([0xe9, 0x0a])])),
  'a quote that is never closed, at the end': (list_id) => loadThen(list_id, () => {}, `${FILE}"0501002000\n`),
};

describe.each(Object.keys(breaks))('after %s', (name) => {
  it('the list is as it was, and the file sent again gives what it gives at once', async () => {
    const list_id = await newList();
    await load(list_id, csv('phone\n0501002000\n0501002999\n'));
    const error: unknown = await breaks[name]!(list_id).catch((caught: unknown) => caught);
    expect(String(error)).toMatch(/connection reset|not UTF-8 text|not closed/);

    const broken = await stateOf(list_id);
    expect(broken).toMatchObject({ leads: 2, import_id: null, state: 'failed' });
    expect(broken?.error).toMatch(/^(interrupted|import_not_text|import_broken)$/);
    expect(broken?.rows, 'nothing had been written: the break came too early').toBeGreaterThan(10);
    const seen = await listListLeads(fixture.db, business_id, list_id, { limit: 100 });
    expect(seen).toMatchObject({ items: [{ phone: number(2_000) }, { phone: number(2_999) }], next: null });

    const report = await load(list_id, csv(FILE));
    expect(report).toMatchObject({ ...whole, accepted: 29, duplicates: 3 });
    expect(await stateOf(list_id)).toMatchObject({ leads: 31, import_id: null, state: 'done', rows: 31 });
    const phones = (await membersOf(fixture, business_id, list_id)).map((lead) => lead.phone);
    expect(new Set(phones).size).toBe(31);
    expect(phones.slice(0, 3)).toEqual([number(2_000), number(2_999), number(2_001)]);
    expect(await linesOf(fixture.db, business_id, report.import_id)).toHaveLength(6);
  });
});

describe('two imports into one list', () => {
  it('at once: one goes on, the others are told', async () => {
    const list_id = await newList();
    const refusals: unknown[] = [];
    const othersAreTold = Promise.withResolvers<void>();
    const tries = Array.from({ length: 6 }, () =>
      load(
        list_id,
        upTo(1, () => othersAreTold.promise),
      ).catch((error: unknown) => {
        if (refusals.push(error) === 5) othersAreTold.resolve();
      }),
    );
    const reports = (await Promise.all(tries)).filter((report) => report !== undefined);
    expect(reports).toMatchObject([whole]);
    for (const refusal of refusals) expect(refusal).toMatchObject({ code: 'import_in_progress' });
    expect(await stateOf(list_id)).toMatchObject({ leads: 30, rows: 30 });
  });

  const makeStale = (list_id: ListId) =>
    fixture.rows("UPDATE carillon.list_imports SET touched_at = now() - interval '61 s' WHERE list_id = $1", [list_id]);
  const importsOf = (list_id: ListId) =>
    fixture.rows('SELECT state, error FROM carillon.list_imports WHERE list_id = $1 ORDER BY import_id', [list_id]);

  it('one of which fell silent: the other takes over, and the first writes nothing when it wakes', async () => {
    const list_id = await newList();
    const silent = await fallSilent(list_id);
    await expect(load(list_id, csv(FILE))).rejects.toMatchObject({ code: 'import_in_progress' });

    await makeStale(list_id);
    expect(await load(list_id, csv(FILE))).toMatchObject(whole);
    const after = await fixture.rows('SELECT * FROM carillon.list_members WHERE list_id = $1', [list_id]);
    expect(await silent.wake()).toMatchObject({ code: 'import_in_progress' });
    expect(await fixture.rows('SELECT * FROM carillon.list_members WHERE list_id = $1', [list_id])).toEqual(after);
    expect(await stateOf(list_id)).toMatchObject({ leads: 30, rows: 30, import_id: null });
    expect(await importsOf(list_id)).toEqual([
      { state: 'failed', error: 'taken over' },
      { state: 'done', error: null },
    ]);
  });

  it('the second of which has not finished either: the first, waking, is fenced off all the same', async () => {
    const list_id = await newList();
    const first = await fallSilent(list_id);
    await makeStale(list_id);
    const second = await fallSilent(list_id);
    expect(await first.wake()).toMatchObject({ code: 'import_in_progress' });
    expect(await second.wake()).toMatchObject(whole);
    expect(await stateOf(list_id)).toMatchObject({ leads: 30, rows: 30, state: 'done' });
  });
});

it('an import that is over is not touched any more by who was still reading', async () => {
  const list_id = await newList();
  const { import_id } = await load(list_id, csv(FILE));
  const touched = () =>
    fixture.rows('SELECT touched_at, bytes_read FROM carillon.list_imports WHERE import_id = $1', [import_id]);
  const before = await touched();
  const fence = { business_id, list_id, import_id: ImportId.parse(import_id), members_before: 0 };
  await touchImport(fixture.db, fence, 1);
  expect(await touched()).toEqual(before);
});

it('two imports into two lists, with the same numbers in opposite order, make each lead once', async () => {
  const phones = Array.from({ length: 400 }, (_, n) => `0${501_003_000 + n}`);
  const lists = [await newList(), await newList()];
  const files = [phones, phones.toReversed()].map((order) => csv(`phone\n${order.join('\n')}\n`));
  const reports = await Promise.all(
    lists.map((list_id, n) => load(list_id, files[n]!, { limits: { ...limits, import_batch_lines: 100 } })),
  );
  expect(reports.map((report) => report.accepted)).toEqual([400, 400]);
  expect(
    await fixture.rows('SELECT count(*)::int FROM carillon.leads WHERE phone BETWEEN $1 AND $2', [
      number(3_000),
      number(3_399),
    ]),
  ).toEqual([{ count: 400 }]);
});

it('a slow upload is written as it comes, so that it is seen to live', async () => {
  const list_id = await newList();
  let now_ms = 0;
  const clock = { monotonicMs: () => (now_ms += 6_000), wallMs: () => 0 };
  const lines: number[] = [];
  await load(list_id, csv('phone\n0501004001\n0501004002\n0501004003\n0501004004\n'), {
    clock,
    onProgress: (totals: { lines: number }) => lines.push(totals.lines),
  });
  expect(lines).toEqual([2, 4]);
});

describe('an idempotency key', () => {
  const once = { idempotency_key: 'a' };

  it('gets the same report for the same request, and writes nothing', async () => {
    const list_id = await newList();
    const report = await load(list_id, csv(FILE), { idempotency_key: 'same' });
    expect(await load(list_id, csv(FILE, 7), { idempotency_key: 'same' })).toEqual(report);
    expect(await stateOf(list_id)).toMatchObject({ leads: 30, rows: 30 });
    expect(await fixture.rows('SELECT 1 FROM carillon.list_imports WHERE list_id = $1', [list_id])).toHaveLength(1);
  });

  it('is refused for other bytes, another country, another mapping and another list', async () => {
    const list_id = await newList();
    await load(list_id, csv(FILE), once);
    const conflict = { code: 'idempotency_conflict' };
    await expect(load(list_id, csv(`${FILE}0501002998\n`), once)).rejects.toMatchObject(conflict);
    await expect(load(list_id, csv(FILE), { ...once, country: 'US' })).rejects.toMatchObject(conflict);
    await expect(load(list_id, csv(FILE), { ...once, mapping: { phone: 'phone' } })).rejects.toMatchObject(conflict);
    await expect(load(await newList(), csv(FILE), once)).rejects.toMatchObject(conflict);
    expect(await stateOf(list_id)).toMatchObject({ leads: 30, rows: 30 });
  });

  it('is free again when the import under it came to nothing, and not while it lives', async () => {
    const list_id = await newList();
    const key = { idempotency_key: 'again' };
    await expect(load(list_id, csv('city\nLod\n'), key)).rejects.toMatchObject({ code: 'import_no_phone_column' });
    const slow = await fallSilent(list_id, key);
    await expect(load(list_id, csv(FILE), key)).rejects.toMatchObject({ code: 'import_in_progress' });
    const report = await slow.wake();
    expect(report).toMatchObject(whole);
    expect(await load(list_id, csv(FILE), key)).toEqual(report);
  });

  it('is each business its own', async () => {
    const other = (await createBusiness(fixture.db, { name: 'theirs' }, actor)).business_id;
    const list_id = ListId.parse((await createList(fixture.db, other, { name: 'list' }, actor)).list_id);
    await load(await newList(), csv(FILE), { idempotency_key: 'mine' });
    const theirs = importLeads(fixture.db, other, list_id, csv('phone\n0501002001\n'), {
      actor,
      idempotency_key: 'mine',
    });
    expect(await theirs).toMatchObject({ lines: 1, accepted: 1 });
  });

  it('used for two lists at once goes to one of them', async () => {
    const lists = [await newList(), await newList()];
    const both = await Promise.allSettled(
      lists.map((list_id) => load(list_id, csv(FILE), { idempotency_key: 'race' })),
    );
    expect(both.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
    expect(both.find((result) => result.status === 'rejected')?.reason).toMatchObject({ code: 'idempotency_conflict' });
  });
});

describe('a file', () => {
  it.each([
    ['that is empty', '', { code: 'import_file_empty' }],
    ['of a BOM alone', '\uFEFF', { code: 'import_file_empty' }],
    ['of blank lines', '\n\n ,, \n', { code: 'import_file_empty' }],
    [
      'without a phone column',
      'name,city\na,b\n',
      { code: 'import_no_phone_column', details: { columns: 'name, city' } },
    ],
    [
      'that is binary',
      Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
      { code: 'import_format_unsupported', details: { found: 'an image' } },
    ],
    ['with a NUL', 'phone,name\n0501002000,a\0b\n', { code: 'import_not_text', details: { byte: 24 } }],
    ['of a header alone', 'phone,name\n', { code: 'import_no_lines' }],
    ['of a header and blank lines', 'phone,name\n\n , \n', { code: 'import_no_lines' }],
    [
      'with a quote that is never closed',
      'phone,name\n0501002000,a\n"0501002001,b\n',
      { code: 'import_broken', details: { line: 3 } },
    ],
    ['of more columns than may be', `phone${',x'.repeat(200)}\n`, { code: 'import_broken', details: { line: 1 } }],
  ])('%s is refused in words', async (_, bytes, error) => {
    const list_id = await newList();
    await expect(load(list_id, csv(bytes))).rejects.toMatchObject(error);
    expect(await stateOf(list_id)).toMatchObject({
      leads: 0,
      rows: 0,
      state: 'failed',
      import_id: null,
      error: error.code,
    });
  });

  it('of numbers that a spreadsheet rounded is rejected line by line', async () => {
    const report = await load(await newList(), csv('phone\n9.72501E+11\n1e+11\n'));
    expect(report).toMatchObject({ lines: 2, accepted: 0, rejected: 2 });
    expect((await linesOf(fixture.db, business_id, report.import_id)).map((line) => line[2])).toEqual([
      'scientific_notation',
      'scientific_notation',
    ]);
  });

  it('of more lines than may be is refused', async () => {
    const list_id = await newList();
    const refused = load(list_id, csv(FILE), { limits: { ...limits, import_file_lines: 34 } });
    await expect(refused).rejects.toMatchObject({ code: 'import_broken', details: { line: 36 } });
    expect(await stateOf(list_id)).toMatchObject({ leads: 0 });
  });

  it('for a country that is none is refused before anything is written', async () => {
    const list_id = await newList();
    await expect(load(list_id, csv(FILE), { country: 'XX' })).rejects.toMatchObject({ code: 'invalid_request' });
    expect(await stateOf(list_id)).toBeUndefined();
  });
});
