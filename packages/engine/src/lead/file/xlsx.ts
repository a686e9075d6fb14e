import type { FileHandle } from 'node:fs/promises';
import { CarillonError } from '@carillon/contract';
import type { ImportLimits } from '../limits.ts';
import { csvLine } from './raw.ts';
import { formatNumber } from './number-format.ts';
import type { FileRow } from './row.ts';
import { createTextStore, type TextStore } from './text-store.ts';
import { readWorkbook, type Workbook } from './workbook.ts';
import { readXml, type XmlHandler } from './xml.ts';
import { type Archive, openArchive } from './zip.ts';

export interface Sheet {
  name: string;
  rows: AsyncGenerator<FileRow>;
  /** 0 to 1. */
  progress(): number;
}

/**
 * Opens a workbook that lies in a file, and one sheet of it: the one named `wanted`, else the first that is not hidden.
 * Cells come as they are shown, where that is more than the bare value: leading zeros and dates. Of a formula, the value
 * that was saved with it. Hidden rows count as others do.
 *
 * In bounded memory, whatever is in the file. `alive` is called between pieces of work. Throws `import_damaged`,
 * `import_unpacks_too_large`, `import_sheet_not_found`, `import_format_unsupported`, `import_no_space`; the rows also
 * `import_broken`.
 */
export async function openSheet(
  file: FileHandle,
  wanted: string | undefined,
  limits: ImportLimits,
  alive: () => Promise<void>,
): Promise<Sheet> {
  const archive = await openArchive(file, limits);
  const book = await readWorkbook(archive, wanted, limits);
  const all_bytes = archive.bytesOf(book.sheet.part);
  let read_bytes = 0;
  async function* sheetBytes() {
    for await (const chunk of archive.read(book.sheet.part)) {
      read_bytes += chunk.length;
      await alive();
      yield chunk;
    }
  }
  return {
    name: book.sheet.name,
    rows: readRows(archive, book, sheetBytes(), limits, alive),
    progress: () => (all_bytes === 0 ? 1 : read_bytes / all_bytes),
  };
}

async function* readRows(
  archive: Archive,
  book: Workbook,
  bytes: AsyncIterable<Buffer>,
  limits: ImportLimits,
  alive: () => Promise<void>,
): AsyncGenerator<FileRow> {
  const texts = book.texts_part === null ? null : await readTexts(archive, book.texts_part, limits, alive);
  try {
    yield* readXml<FileRow>(bytes, limits, (emit) => rowHandler(book, texts, limits, emit));
  } finally {
    await texts?.close();
  }
}

async function readTexts(
  archive: Archive,
  part: string,
  limits: ImportLimits,
  alive: () => Promise<void>,
): Promise<TextStore> {
  const store = await createTextStore(limits);
  try {
    async function* bytes() {
      for await (const chunk of archive.read(part)) {
        await alive();
        yield chunk;
      }
    }
    const collected = collectText();
    const handlerOf = (emit: (text: string) => void): XmlHandler => ({
      ...collected.handler,
      close(name) {
        collected.handler.close(name);
        if (name === 'si') emit(collected.take());
      },
    });
    for await (const text of readXml<string>(bytes(), limits, handlerOf)) await store.add(text);
    await store.finish();
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** The text of a cell: its pieces joined, without what tells how they are pronounced. */
function collectText() {
  let text = '';
  let inText = false;
  let aside = 0;
  return {
    handler: {
      open(name: string) {
        if (name === 'rPh') aside++;
        if (name === 't') inText = aside === 0;
      },
      text(value: string) {
        if (inText) text += value;
      },
      close(name: string) {
        if (name === 'rPh') aside--;
        if (name === 't') inText = false;
      },
    },
    take(): string {
      const taken = unescapeText(text);
      text = '';
      return taken;
    },
  };
}

/** Characters that XML can't hold are written `_x000D_`. */
function unescapeText(text: string): string {
  return text.replace(/_x([0-9A-Fa-f]{4})_/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
}

interface Cell {
  index: number;
  type: string;
  style: number;
}

function rowHandler(
  book: Workbook,
  texts: TextStore | null,
  limits: ImportLimits,
  emit: (row: FileRow) => void,
): XmlHandler {
  const inline = collectText();
  let line = 0;
  let fields: string[] = [];
  let numbers = new Set<number>();
  let chars = 0;
  let cell: Cell | null = null;
  let value = '';
  let inValue = false;
  const broken = (problem: string) => new CarillonError('import_broken', { line, problem });
  const endCell = ({ index, type, style }: Cell) => {
    const own = inline.take();
    const text = type === 'inlineStr' ? own : cellText(value, type, style, book, texts);
    if (text.trim() === '') return;
    if (index >= limits.import_columns) throw broken(`it has more than ${limits.import_columns} columns`);
    chars += text.length;
    if (chars > limits.import_line_bytes) throw broken(`its values are longer than ${limits.import_line_bytes} bytes`);
    fields[index] = text;
    if (type === 'n') numbers.add(index);
  };
  return {
    open(name, attributes) {
      if (name === 'row') {
        line = rowNumber(attributes.r, line, broken);
        [fields, numbers, chars, cell] = [[], new Set(), 0, null];
      } else if (name === 'c') {
        const index = columnOf(attributes.r) ?? (cell ? cell.index + 1 : 0);
        cell = { index, type: attributes.t ?? 'n', style: Number(attributes.s ?? 0) };
        value = '';
      } else if (name === 'v') inValue = true;
      else if (cell) inline.handler.open(name);
    },
    text(text) {
      if (inValue) value += text;
      else if (cell) inline.handler.text(text);
    },
    close(name) {
      if (name === 'v') inValue = false;
      else if (name === 'c' && cell) endCell(cell);
      else if (name === 'row' && fields.length > 0) {
        const values = Array.from(fields, (text) => text ?? '');
        emit({ line, fields: values, raw: csvLine(values), numbers });
      } else if (cell) inline.handler.close(name);
    },
  };
}

const ROWS_MAX = 2_147_483_647;

function rowNumber(text: string | undefined, before: number, broken: (problem: string) => Error): number {
  const line = text === undefined ? before + 1 : Number(text);
  if (!Number.isInteger(line) || line <= before || line > ROWS_MAX)
    throw broken(`the row after it has no number that could follow (${String(text).slice(0, 20)})`);
  return line;
}

/** `B7` is column 1. */
function columnOf(reference: string | undefined): number | null {
  const letters = /^([A-Z]{1,3})\d*$/.exec(reference ?? '')?.[1];
  if (letters === undefined) return null;
  return [...letters].reduce((number, letter) => number * 26 + letter.charCodeAt(0) - 64, 0) - 1;
}

/** `type` is s (a text by number), str (of a formula), b, e (an error such as #N/A), d (ISO 8601) or n. */
function cellText(value: string, type: string, style: number, book: Workbook, texts: TextStore | null): string {
  switch (type) {
    case 's':
      return texts?.get(Number(value.trim() || '-1')) ?? '';
    case 'n':
      return formatNumber(value, book.formats[style] ?? { kind: 'general' }, book.date1904);
    case 'b':
      return value === '1' ? 'TRUE' : value === '0' ? 'FALSE' : value;
    case 'd':
      return value.replace('T', ' ');
    default:
      return unescapeText(value);
  }
}
