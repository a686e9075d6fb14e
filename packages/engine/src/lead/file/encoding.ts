import { isAscii, isUtf8 } from 'node:buffer';
import { CarillonError } from '@carillon/contract';

/** The encodings that a caller may name. The first five are also recognised. */
export const ENCODINGS = [
  'utf-8',
  'utf-16le',
  'utf-16be',
  'windows-1255',
  'windows-1252',
  'windows-1251',
  'windows-1256',
] as const;
export type Encoding = (typeof ENCODINGS)[number];

/** By a byte order mark, or by where the zeros stand that UTF-16 has in every digit and comma. Null: some 8-bit text. */
export function encodingOfStart(sample: Buffer): Encoding | null {
  if (sample[0] === 0xef && sample[1] === 0xbb && sample[2] === 0xbf) return 'utf-8';
  if (sample[0] === 0xff && sample[1] === 0xfe) return 'utf-16le';
  if (sample[0] === 0xfe && sample[1] === 0xff) return 'utf-16be';
  let even = 0;
  let odd = 0;
  for (const [at, byte] of sample.entries()) {
    if (byte === 0 && at % 2 === 0) even++;
    if (byte === 0 && at % 2 === 1) odd++;
  }
  const seldom = Math.max(2, sample.length / 10);
  if (odd > seldom && even * 20 < odd) return 'utf-16le';
  if (even > seldom && odd * 20 < even) return 'utf-16be';
  return null;
}

/**
 * Recognises the encoding of 8-bit text by a piece of it that has bytes above 127. Valid UTF-8 is UTF-8: no other
 * text is, but by rare chance. Else Hebrew words are runs of the letters E0 to FA with no Latin letter beside them, and
 * Western accents stand among Latin letters. Null where neither is the clear majority. `before` is the byte before the piece.
 */
export function recogniseEncoding(piece: Buffer, before?: number): Encoding | null {
  const { good, bad } = countUtf8(piece);
  // A few bad bytes in UTF-8 are damage, and get the error that names them.
  if (good > 8 * bad) return 'utf-8';
  let hebrew = 0;
  let latin = 0;
  let other = 0;
  for (let at = 0; at < piece.length; at++) {
    if (!isHigh(piece[at])) continue;
    const start = at;
    while (isHigh(piece[at + 1])) at++;
    const run = piece.subarray(start, at + 1);
    const letters = run.filter((byte) => byte >= 0xc0).length;
    if (letters === 0) continue;
    if (isLatinLetter(start === 0 ? before : piece[start - 1]) || isLatinLetter(piece[at + 1])) latin += letters;
    else if (run.every(isOfHebrew)) hebrew += letters;
    else other += letters;
  }
  if (hebrew > 4 * (latin + other)) return 'windows-1255';
  if (latin > 4 * (hebrew + other)) return 'windows-1252';
  return hebrew + latin + other === 0 ? 'windows-1252' : null;
}

const isHigh = (byte: number | undefined) => byte !== undefined && byte >= 0x80;
const isLatinLetter = (byte: number | undefined) =>
  byte !== undefined && ((byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a));
/** Letters, points (C0 to D8), and the signs and punctuation that all code pages of the family share. */
const isOfHebrew = (byte: number) => (byte >= 0xe0 && byte <= 0xfa) || byte <= 0xd8 || byte === 0xfd || byte === 0xfe;

/** Whole characters of more than one byte, and bytes that belong to none. One that the end cuts off counts as neither. */
function countUtf8(bytes: Buffer): { good: number; bad: number } {
  let good = 0;
  let bad = 0;
  for (let at = 0; at < bytes.length; ) {
    const byte = bytes[at] ?? 0;
    const length = byte < 0x80 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    if (at + length > bytes.length) break;
    if (length === 1) at++;
    else if (byte >= 0xc2 && isUtf8(bytes.subarray(at, at + length))) {
      good++;
      at += length;
    } else {
      bad++;
      at++;
    }
  }
  return { good, bad };
}

/**
 * Turns text into UTF-8, as it arrives. Where the encoding is not known, plain ASCII is passed on until the first byte
 * that is none; `piece_bytes` from there on decide, in whatever chunks they come. `onDecided` is told as soon as it is
 * certain; never for pure ASCII, which is UTF-8 as well. Throws `import_encoding_unknown`.
 */
export async function* toUtf8(
  source: AsyncIterable<Buffer>,
  known: Encoding | null,
  piece_bytes: number,
  onDecided: (encoding: Encoding) => void,
): AsyncGenerator<Buffer> {
  let decode = known === null ? null : decoder(known);
  let undecided: Buffer = Buffer.alloc(0);
  let before: number | undefined;
  const decide = (): Buffer => {
    const encoding = recogniseEncoding(undecided.subarray(0, piece_bytes), before);
    if (encoding === null) throw new CarillonError('import_encoding_unknown', { known: ENCODINGS.join(', ') });
    onDecided(encoding);
    decode = decoder(encoding);
    return decode(undecided);
  };
  for await (const chunk of source) {
    if (decode) {
      yield decode(chunk);
      continue;
    }
    const ascii = undecided.length > 0 ? 0 : asciiBytes(chunk);
    if (ascii > 0) yield chunk.subarray(0, ascii);
    before = chunk[ascii - 1] ?? before;
    undecided = Buffer.concat([undecided, chunk.subarray(ascii)]);
    if (undecided.length >= piece_bytes) yield decide();
  }
  if (!decode && undecided.length > 0) yield decide();
  if (decode) yield decode();
}

/** How many bytes stand before the first one above 127. */
function asciiBytes(chunk: Buffer): number {
  if (isAscii(chunk)) return chunk.length;
  return chunk.findIndex((byte) => byte >= 0x80);
}

/** To UTF-8 bytes, chunk by chunk; called without one it gives what is left at the end. */
function decoder(encoding: Encoding): (chunk?: Buffer) => Buffer {
  if (encoding === 'utf-8') return (chunk) => chunk ?? Buffer.alloc(0);
  const text = new TextDecoder(encoding);
  return (chunk) => Buffer.from(chunk ? text.decode(chunk, { stream: true }) : text.decode());
}

/** The beginning of a file as text, for recognising what is in it. */
export function sampleText(sample: Buffer, known: Encoding | null): string {
  const encoding = known ?? (isAscii(sample) ? 'utf-8' : (recogniseEncoding(sample) ?? 'windows-1252'));
  return new TextDecoder(encoding).decode(sample, { stream: true });
}
