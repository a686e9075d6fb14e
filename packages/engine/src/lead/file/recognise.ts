import { CarillonError } from '@carillon/contract';

const EXCEL_97 = Buffer.from('d0cf11e0a1b11ae1', 'hex');
const PASSWORD = Buffer.from('EncryptedPackage', 'utf16le');
const ZIP = [Buffer.from('PK\x03\x04', 'latin1'), Buffer.from('PK\x05\x06', 'latin1')];

/** What is neither a table nor text, by how it begins, in words that complete "The file is …". */
const OTHERS: readonly (readonly [begin: Buffer, found: string])[] = [
  [Buffer.from('%PDF-'), 'a PDF'],
  [Buffer.from('89504e47', 'hex'), 'an image'],
  [Buffer.from('ffd8ff', 'hex'), 'an image'],
  [Buffer.from('GIF8'), 'an image'],
  [Buffer.from('1f8b', 'hex'), 'compressed with gzip'],
  [Buffer.from('Rar!'), 'a RAR archive'],
  [Buffer.from('377abcaf271c', 'hex'), 'a 7-Zip archive'],
  [Buffer.from('{\\rtf'), 'a rich text document'],
  [Buffer.from('SQLite format 3\0'), 'a database'],
];

/**
 * Whether a file is a zip archive, as XLSX is, or text; judged by its beginning, never by its name. Throws
 * `import_format_unsupported` for what is known to be something else.
 */
export function recogniseKind(sample: Buffer): 'zip' | 'text' {
  if (ZIP.some((begin) => startsWith(sample, begin))) return 'zip';
  if (startsWith(sample, EXCEL_97)) {
    const locked = sample.includes(PASSWORD);
    throw unsupported(
      locked ? 'an Excel file with a password' : 'an older Excel file (.xls), or one that has a password',
    );
  }
  const other = OTHERS.find(([begin]) => startsWith(sample, begin));
  if (other) throw unsupported(other[1]);
  return 'text';
}

/** The same for text. `text` is the beginning of the file. JSON objects line by line are NDJSON. */
export function recogniseText(text: string): 'csv' | 'ndjson' {
  const start = text.trimStart();
  if (/^<(\?xml|!|html|head|meta|table|div|style)/i.test(start))
    throw unsupported('a web page or XML, as some programs export it under the name .xls');
  if (/^\[\s*[{\]]/.test(start)) throw unsupported('one JSON array; write one object on each line (NDJSON)');
  return /^\{\s*("|\}|$)/.test(start) ? 'ndjson' : 'csv';
}

export function unsupported(found: string): CarillonError {
  return new CarillonError('import_format_unsupported', { found });
}

function startsWith(bytes: Buffer, begin: Buffer): boolean {
  return bytes.subarray(0, begin.length).equals(begin);
}
