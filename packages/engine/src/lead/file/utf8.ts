import { isUtf8 } from 'node:buffer';
import { CarillonError } from '@carillon/contract';

/** What the parser is given at once: it makes all records of a piece before it can be told to wait. */
const PIECE_BYTES = 65_536;
const REPLACEMENT = Buffer.from('\uFFFD');

/**
 * Passes bytes on in small pieces, as long as they are UTF-8 text in lines of bounded length. A character that is cut by
 * the end of a chunk is judged with the next one.
 *
 * Throws `import_not_text` with the offending byte's place in the file, counted from 1 (a NUL counts as binary), and
 * `import_broken` with the line that is too long.
 */
export async function* checkedText(source: AsyncIterable<Buffer>, line_bytes_max: number): AsyncGenerator<Buffer> {
  let passed = 0;
  let rest: Buffer = Buffer.alloc(0);
  const lines = lineGuard(line_bytes_max);
  for await (const chunk of source) {
    const bytes = Buffer.concat([rest, chunk]);
    const whole = bytes.subarray(0, bytes.length - cutCharacter(bytes));
    check(whole, passed);
    lines(whole);
    passed += whole.length;
    rest = Buffer.from(bytes.subarray(whole.length));
    for (let at = 0; at < whole.length; at += PIECE_BYTES) yield whole.subarray(at, at + PIECE_BYTES);
  }
  check(rest, passed);
}

/** How many bytes at the end are the beginning of a character that goes on in the next chunk: 0 to 3. */
function cutCharacter(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? back : 0;
  }
  return 0;
}

function check(bytes: Buffer, passed: number): void {
  const nul = bytes.indexOf(0);
  const wrong = isUtf8(bytes) ? -1 : firstWrongByte(bytes);
  const first = nul >= 0 && (wrong < 0 || nul < wrong) ? nul : wrong;
  if (first >= 0) throw new CarillonError('import_not_text', { byte: passed + first + 1 });
}

/** Decoding puts U+FFFD where a byte is wrong; one that stands in the file itself is three right bytes. */
function firstWrongByte(bytes: Buffer): number {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  let at = 0;
  for (let from = 0; ; ) {
    const next = text.indexOf('\uFFFD', from);
    at += Buffer.byteLength(text.slice(from, next));
    if (!bytes.subarray(at, at + REPLACEMENT.length).equals(REPLACEMENT)) return at;
    at += REPLACEMENT.length;
    from = next + 1;
  }
}

/** A line of commas alone would become an array without end, which no limit on the size of values notices. */
function lineGuard(line_bytes_max: number): (bytes: Buffer) => void {
  let line = 1;
  let length = 0;
  let previous = 0;
  return (bytes) => {
    for (const byte of bytes) {
      length++;
      if (byte === 13 || (byte === 10 && previous !== 13)) line++;
      if (byte === 13 || byte === 10) length = 0;
      if (length > line_bytes_max)
        throw new CarillonError('import_broken', { line, problem: `it is longer than ${line_bytes_max} bytes` });
      previous = byte;
    }
  };
}
