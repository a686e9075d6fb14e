import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startChild } from '../../../test/support/child.ts';
import { bookParts, xlsx, zip } from '../../../test/support/xlsx.ts';
import { createBusiness } from '../src/business/create-business.ts';
import { createList } from '../src/lead/lists.ts';
import { actor, createFixture, type Fixture } from './support/fixture.ts';
import type { Order, Outcome } from './support/import-child.ts';

/** Files of a hundred megabytes and more, each imported by a process that may have a fraction of that. */

const HEAP_MB = 128;
const RSS_BYTES_MAX = 400_000_000;

let fixture: Fixture;
let directory: string;
beforeAll(async () => {
  fixture = await createFixture();
  directory = await mkdtemp(path.join(tmpdir(), 'carillon-memory-'));
});
afterAll(async () => {
  await fixture.close();
  await rm(directory, { recursive: true, force: true });
});

async function importInChild(bytes: Buffer, prefix: readonly string[] = []): Promise<Outcome> {
  const { business_id } = await createBusiness(fixture.db, { name: 'memory' }, actor);
  const { list_id } = await createList(fixture.db, business_id, { name: 'list' }, actor);
  const file = path.join(directory, 'file');
  await writeFile(file, bytes);
  const child = startChild(path.join(import.meta.dirname, 'support/import-child.ts'), {
    prefix: [...prefix, 'env', `NODE_OPTIONS=--max-old-space-size=${HEAP_MB}`, `TMPDIR=${directory}`],
  });
  try {
    const order: Order = { url: fixture.appUrl, file, business_id, list_id };
    child.send(order);
    return await child.next<Outcome>();
  } finally {
    await child.kill();
  }
}

const MEGABYTE = 1_048_576;
const line = (n: number, chars: number) => `0${520_000_000 + n},${'א'.repeat(chars / 2)}`;
/** A text that no other is like, and that can't be packed to nothing. */
const letters = (n: number) =>
  Array.from({ length: 500 }, (_, k) =>
    String.fromCharCode(0x5d0 + (Math.abs(n * 7_919 + k * k * 31 + (n ^ k)) % 27)),
  ).join('');
const LONG = 40_000;
const long = `phone,note\n${Array.from({ length: LONG }, (_, n) => line(n, 2_600)).join('\n')}`;

const FILES: readonly [name: string, bytes: () => Buffer, outcome: { accepted?: number; code?: string }][] = [
  ['CSV of 100 MB', () => Buffer.from(long), { accepted: LONG }],
  [
    'CSV of 25 MB in UTF-16',
    () => Buffer.from(`\uFEFF${long.slice(0, long.length / 4)}`, 'utf16le'),
    { accepted: LONG / 4 },
  ],
  ['a single line of 100 MB', () => Buffer.alloc(100 * MEGABYTE, '0'), { code: 'import_broken' }],
  ['a quote of 100 MB', () => Buffer.from(`phone\n"${'0501\n'.repeat(20 * MEGABYTE)}`), { code: 'import_broken' }],
  ['100 MB of commas', () => Buffer.alloc(100 * MEGABYTE, ','), { code: 'import_broken' }],
  ['100 MB of line ends', () => Buffer.alloc(100 * MEGABYTE, '\n'), { code: 'import_file_empty' }],
  [
    'a JSON object of 100 MB',
    () => Buffer.from(`{"phone":"${'0'.repeat(100 * MEGABYTE)}"}`),
    { code: 'import_broken' },
  ],
  [
    'XLSX with 60 MB of different texts',
    () =>
      xlsx([
        ['phone', 'a', 'b'],
        ...Array.from({ length: 30_000 }, (_, n) => [520_000_000 + n, letters(n), letters(-n)]),
      ]),
    { accepted: 30_000 },
  ],
  [
    'XLSX with a text of 100 MB',
    () =>
      zip(
        {
          ...bookParts([]),
          'xl/sharedStrings.xml': `<sst><si><t>${'x'.repeat(60 * MEGABYTE)}</t></si></sst>`,
          'xl/worksheets/sheet1.xml': `<worksheet><sheetData><row><c t="str"><v>${'0'.repeat(60 * MEGABYTE)}`,
        },
        { stored: true },
      ),
    { code: 'import_damaged' },
  ],
  [
    'XLSX with two million texts of no length',
    () =>
      xlsx([['phone'], ['0501000001']], {
        parts: {
          'xl/sharedStrings.xml': `<sst><si><t>phone</t></si><si><t>0501000001</t></si>${'<si/>'.repeat(2_000_000)}</sst>`,
        },
      }),
    { accepted: 1 },
  ],
];

describe(`with a heap of ${HEAP_MB} MB`, () => {
  it.each(FILES)(
    '%s',
    async (_, bytes, { accepted, code = null }) => {
      const outcome = await importInChild(bytes());
      console.log(`${outcome.code ?? outcome.report?.accepted}: ${Math.round(outcome.rss_bytes / 1e6)} MB at most`);
      expect([outcome.code, outcome.report?.accepted]).toEqual([code, accepted]);
      expect(outcome.rss_bytes).toBeLessThan(RSS_BYTES_MAX);
      expect((await readdir(directory)).filter((name) => name.startsWith('carillon-import-'))).toEqual([]);
    },
    180_000,
  );
});

it('a disk without room for a workbook is told, and the workbook can be sent again', async () => {
  const book = xlsx([['phone'], ...Array.from({ length: 30_000 }, (_, n) => [`0${520_000_000 + n}`])]);
  // A process may write files of so many blocks: for it, the disk is full. (bash counts kilobytes, other shells halves.)
  const full = await importInChild(book, ['bash', '-c', 'ulimit -f 50; exec "$0" "$@"']);
  expect(full.code).toBe('import_no_space');
  expect(await importInChild(book)).toMatchObject({ code: null, report: { accepted: 30_000 } });
}, 120_000);
