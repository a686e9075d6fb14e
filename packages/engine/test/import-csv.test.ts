import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { csvSafeLine } from '../src/lead/csv-safe.ts';
import { readCsv } from '../src/lead/file/csv.ts';
import type { FileRow } from '../src/lead/file/row.ts';
import { defaultImportLimits } from '../src/lead/limits.ts';

async function* inPieces(bytes: Buffer, piece_bytes: number) {
  for (let at = 0; at < bytes.length; at += piece_bytes) yield bytes.subarray(at, at + piece_bytes);
}

async function read(text: string | Buffer, piece_bytes = 65_536): Promise<FileRow[]> {
  return await Array.fromAsync(readCsv(inPieces(Buffer.from(text as string), piece_bytes), ',', defaultImportLimits));
}

/** With each way of cutting the bytes into pieces: the answer must not depend on it. */
async function refusal(text: string | Buffer): Promise<unknown> {
  const errors = [1, 2, 3, 7, 65_536].map((piece_bytes) => read(text, piece_bytes).then(String, (error) => error));
  const [first, ...others] = await Promise.all(errors);
  for (const other of others) expect(other).toEqual(first);
  return first;
}

describe('records and their lines', () => {
  it('count the lines of the file, with quoted line ends, blank lines and every kind of line end', async () => {
    const text = 'p,n\r\n1,"a\r\nb"\r\n\r\n\r\n2,c\n\n3,"d\n\ne"\r4,f';
    for (const piece_bytes of [1, 2, 5, 65_536]) {
      expect((await read(text, piece_bytes)).map(({ line, fields }) => [line, ...fields])).toEqual([
        [1, 'p', 'n'],
        [2, '1', 'a\r\nb'],
        [6, '2', 'c'],
        [8, '3', 'd\n\ne'],
        [11, '4', 'f'],
      ]);
    }
  });

  it('skip a BOM, also one in pieces', async () => {
    for (const piece_bytes of [1, 2, 9])
      expect((await read('\uFEFFטלפון\n1', piece_bytes))[0]?.fields).toEqual(['טלפון']);
  });

  it('keep what stands in the file', async () => {
    const [, line] = await read('p,n\n"1","ד""ר, כהן"\r\n');
    expect(line).toEqual({ line: 2, fields: ['1', 'ד"ר, כהן'], raw: '"1","ד""ר, כהן"' });
  });

  it('take quotes inside a value as they are, as Hebrew abbreviations have them', async () => {
    const [, one, two] = await read('p,n\n1,ד"ר כהן בע"מ\n2,"חברה" בע"מ\n');
    expect([one?.fields, two?.fields]).toEqual([
      ['1', 'ד"ר כהן בע"מ'],
      ['2', '"חברה" בע"מ'],
    ]);
  });

  it('are those that were written, whatever is in them', async () => {
    const value = fc.string({ unit: fc.constantFrom('a', 'ש', '😀', '"', ',', '\n', '\r', ' ', '\uFFFD') });
    const rows = fc.array(fc.array(value, { minLength: 2, maxLength: 4 }), { minLength: 1, maxLength: 6 });
    const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
    await fc.assert(
      fc.asyncProperty(rows, fc.integer({ min: 1, max: 20 }), async (rows, piece_bytes) => {
        const text = rows.map((row) => row.map(quoted).join(',')).join('\n');
        expect((await read(text, piece_bytes)).map((line) => line.fields)).toEqual(rows);
      }),
    );
  });
});

describe('what is no text', () => {
  it.each([
    ['latin-1', Buffer.from('phone\n05\xe9', 'latin1'), 9],
    ['windows-1255', Buffer.from([0x70, 0x0a, 0xf9, 0xec, 0xe5, 0xed]), 3],
    ['UTF-16', Buffer.from('\uFEFFphone\n', 'utf16le'), 1],
    ['a NUL', Buffer.from('phone\n05\x002'), 9],
    ['a spreadsheet file', Buffer.from([0x50, 0x4b, 0x03, 0x04, 0x14, 0x00, 0x06]), 6],
    ['a character cut by the end', Buffer.from([0x61, 0x0a, 0xd7]), 3],
    ['behind a U+FFFD that stands there', Buffer.concat([Buffer.from('p\n\uFFFD'), Buffer.from([0xff])]), 6],
  ])('%s', async (_, bytes, byte) => {
    expect(await refusal(bytes)).toMatchObject({ code: 'import_not_text', details: { byte } });
  });
});

describe('what can not be read', () => {
  it.each([
    ['a quote that is never closed', 'p,n\n1,a\n\n2,"b\n3,c\n', 4],
    ['a quote that the next one of a later line ends', 'p,n\n1,"a\n2,b\n3,"c"\n4,d\n', 2],
    ['a quote that swallows more than a line may have', `p\n1\n"${'x\n'.repeat(40_000)}`, 3],
    ['a line without end', `p\n1\n${'2'.repeat(70_000)}`, 3],
    ['a line of commas', `p\r\n1\r\n${','.repeat(70_000)}`, 3],
  ])('%s', async (_, text, line) => {
    expect(await refusal(text)).toMatchObject({ code: 'import_broken', details: { line } });
  });
});

it('fails with what the source fails with, and closes the source when nobody reads on', async () => {
  const broken = Readable.from(
    (async function* () {
      yield Buffer.from('p\n1\n');
      throw new Error('connection reset');
    })(),
  );
  await expect(Array.fromAsync(readCsv(broken, ',', defaultImportLimits))).rejects.toThrow('connection reset');

  const endless = Readable.from(
    (function* () {
      yield Buffer.from('p\n');
      for (;;) yield Buffer.from('0521234567\n'.repeat(1_000));
    })(),
  );
  for await (const line of readCsv(endless, ',', defaultImportLimits)) if (line.line > 5_000) break;
  await expect(until(() => endless.destroyed, { deadline_ms: 5_000 })).resolves.toBe(true);
});

it('writes lines that a spreadsheet shows and does not execute', async () => {
  const values = ['=1+1', '+972', '-1', '@x', '\tx', 'a,b', 'a"b', 'a\nb', 'שלום', ''];
  const line = csvSafeLine([7, ...values]);
  expect(line).toBe(`7,'=1+1,'+972,'-1,'@x,'\tx,"a,b","a""b","a\nb",שלום,\r\n`);
  expect((await read(line))[0]?.fields.slice(6)).toEqual(values.slice(5));
});
