import { describe, expect, it } from 'vitest';
import { type Encoding, encodingOfStart, recogniseEncoding, toUtf8 } from '../src/lead/file/encoding.ts';
import { csv } from './support/leads.ts';

const HEBREW = Buffer.from([0xf9, 0xec, 0xe5, 0xed]);
const ACCENTS = Buffer.from('Ren\xe9 Andr\xe9 ', 'latin1');

async function decode(bytes: Buffer, piece_bytes: number, window_bytes: number) {
  let decided: Encoding | null = null;
  const chunks = await Array.fromAsync(
    toUtf8(csv(bytes, piece_bytes), null, window_bytes, (found) => (decided = found)),
  );
  return { decided, text: Buffer.concat(chunks).toString() };
}

it('an encoding is decided by the same bytes, in whatever pieces they come', async () => {
  // Hebrew at first and accents later, as no file has it: a longer look would decide otherwise.
  const bytes = Buffer.concat([
    Buffer.from('phone,name\n1,'),
    ...Array.from({ length: 6 }, () => Buffer.concat([HEBREW, Buffer.from(' ')])),
    ...Array.from({ length: 200 }, () => ACCENTS),
  ]);
  for (const piece_bytes of [1, 7, 30, 1_000, 65_536]) {
    const { decided, text } = await decode(bytes, piece_bytes, 30);
    expect([piece_bytes, decided, text.slice(0, 18)]).toEqual([piece_bytes, 'windows-1255', 'phone,name\n1,שלום ']);
  }
  expect((await decode(bytes, 7, 65_536)).decided).toBe('windows-1252');
});

it('ASCII is passed on undecided, and is UTF-8 as well', async () => {
  expect(await decode(Buffer.from('phone\n1\n'), 3, 30)).toEqual({ decided: null, text: 'phone\n1\n' });
});

describe('a piece of 8-bit text', () => {
  it.each([
    ['Hebrew words', HEBREW, undefined, 'windows-1255'],
    ['one Hebrew letter by itself', Buffer.from([0xf9]), 0x2c, 'windows-1255'],
    ['an accent behind a letter', Buffer.from([0xe9]), 0x6e, 'windows-1252'],
    ['signs alone', Buffer.from([0x93, 0x20, 0x94]), undefined, 'windows-1252'],
    ['UTF-8', Buffer.from('שלום'), undefined, 'utf-8'],
    ['UTF-8 cut off', Buffer.from('שלום').subarray(0, 7), undefined, 'utf-8'],
    [
      'UTF-8 with one damaged byte',
      Buffer.concat([Buffer.from('שלום שלום שלום'), Buffer.from([0xd7, 0x20])]),
      undefined,
      'utf-8',
    ],
    ['Cyrillic', Buffer.from([0xc0, 0xed, 0xfb, 0xff]), undefined, null],
    ['as much of one as of the other', Buffer.concat([HEBREW, Buffer.from(' '), ACCENTS, ACCENTS]), undefined, null],
  ] as const)('%s', (_, piece, before, encoding) => {
    expect(recogniseEncoding(piece, before)).toBe(encoding);
  });
});

it('UTF-16 is known by its mark or its zeros, and a stray zero is none', () => {
  const text = 'שם,טלפון\r\n1,0501000001\r\n';
  expect(encodingOfStart(Buffer.from(`\uFEFF${text}`, 'utf16le'))).toBe('utf-16le');
  expect(encodingOfStart(Buffer.from(text, 'utf16le'))).toBe('utf-16le');
  expect(encodingOfStart(Buffer.from(text, 'utf16le').swap16())).toBe('utf-16be');
  expect(encodingOfStart(Buffer.from(text))).toBeNull();
  expect(encodingOfStart(Buffer.from('phone\n0501\x002\n'))).toBeNull();
  expect(encodingOfStart(Buffer.alloc(100))).toBeNull();
});
