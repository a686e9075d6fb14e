import path from 'node:path';
import { CarillonError } from '@carillon/contract';
import type { ImportLimits } from '../limits.ts';
import { cut, plain } from '../text.ts';
import { builtInFormat, type NumberFormat, readFormat } from './number-format.ts';
import { unsupported } from './recognise.ts';
import { damaged, readXml, type XmlHandler } from './xml.ts';
import type { Archive } from './zip.ts';

/** What must be known of a workbook before its sheet is read. */
export interface Workbook {
  sheet: { name: string; part: string };
  /** Null: no cell refers to a text by number. */
  texts_part: string | null;
  /** By a cell's style. */
  formats: readonly NumberFormat[];
  date1904: boolean;
}

/**
 * Reads a workbook's directory and chooses the sheet: the one that is named, else the first that is not hidden. Throws
 * `import_sheet_not_found`, `import_format_unsupported` (an archive of something else), `import_damaged`.
 */
export async function readWorkbook(
  archive: Archive,
  wanted: string | undefined,
  limits: ImportLimits,
): Promise<Workbook> {
  refuseOthers(archive);
  const book_part = await findBook(archive, limits);
  const { sheets, date1904 } = await readBook(archive, book_part, limits);
  const links = await readLinks(archive, book_part, limits);
  const worksheets = sheets.filter(({ link }) => links.get(link)?.type === 'worksheet');
  const sheet = chooseSheet(worksheets, wanted);
  const partOf = (type: string) => [...links.values()].find((link) => link.type === type)?.part;
  const styles = partOf('styles');
  const texts = partOf('sharedStrings');
  return {
    sheet: { name: sheet.name, part: links.get(sheet.link)?.part ?? '' },
    texts_part: texts !== undefined && archive.has(texts) ? texts : null,
    formats: styles !== undefined && archive.has(styles) ? await readFormats(archive, styles, limits) : [],
    date1904,
  };
}

function refuseOthers(archive: Archive): void {
  if (archive.has('xl/workbook.bin')) throw unsupported('a binary Excel workbook (.xlsb)');
  if (archive.has('word/document.xml')) throw unsupported('a Word document');
  if (archive.has('ppt/presentation.xml')) throw unsupported('a PowerPoint presentation');
  if (archive.has('content.xml')) throw unsupported('an OpenDocument file (.ods)');
  if (!archive.has('xl/workbook.xml') && !archive.has('_rels/.rels')) throw unsupported('a zip archive');
}

interface Link {
  /** The last word of the type's address, which two versions of the standard have in common. */
  type: string;
  part: string;
}

async function findBook(archive: Archive, limits: ImportLimits): Promise<string> {
  const links = archive.has('_rels/.rels') ? await readLinks(archive, '', limits) : new Map<string, Link>();
  const part = [...links.values()].find(({ type }) => type === 'officeDocument')?.part ?? 'xl/workbook.xml';
  if (!archive.has(part)) throw unsupported('a zip archive');
  return part;
}

async function readLinks(archive: Archive, part: string, limits: ImportLimits): Promise<Map<string, Link>> {
  const folder = path.posix.dirname(part);
  const links = path.posix.join(folder, '_rels', `${path.posix.basename(part)}.rels`);
  const found = await collect<[string, Link]>(archive, links, limits, (emit) => ({
    open(name, { Id = '', Type = '', Target = '' }) {
      if (name !== 'Relationship') return;
      const target = Target.startsWith('/') ? Target.slice(1) : path.posix.join(folder, Target);
      emit([Id, { type: Type.slice(Type.lastIndexOf('/') + 1), part: target }]);
    },
  }));
  return new Map(found);
}

interface SheetEntry {
  name: string;
  hidden: boolean;
  link: string;
}

async function readBook(archive: Archive, part: string, limits: ImportLimits) {
  let date1904 = false;
  const sheets = await collect<SheetEntry>(archive, part, limits, (emit) => ({
    open(name, attributes) {
      if (name === 'workbookPr') date1904 = /^(1|true)$/.test(attributes.date1904 ?? '');
      if (name !== 'sheet') return;
      const link = Object.entries(attributes).find(([key]) => /(^|:)id$/.test(key))?.[1] ?? '';
      const hidden = (attributes.state ?? 'visible') !== 'visible';
      emit({ name: attributes.name ?? '', hidden, link });
    },
  }));
  return { sheets, date1904 };
}

function chooseSheet(sheets: readonly SheetEntry[], wanted: string | undefined): SheetEntry {
  if (wanted === undefined) {
    const first = sheets.find((sheet) => !sheet.hidden) ?? sheets[0];
    if (!first) throw damaged('it has no sheet');
    return first;
  }
  const same = (name: string) => plain(name).toLowerCase() === plain(wanted).toLowerCase();
  const named = sheets.find((sheet) => same(sheet.name));
  if (named) return named;
  const names = sheets.slice(0, 20).map((sheet) => cut(plain(sheet.name), 40));
  throw new CarillonError('import_sheet_not_found', { wanted, sheets: names.join(', ') });
}

async function readFormats(archive: Archive, part: string, limits: ImportLimits): Promise<NumberFormat[]> {
  const own = new Map<string, NumberFormat>();
  let inCells = false;
  return await collect<NumberFormat>(archive, part, limits, (emit) => ({
    open(name, { numFmtId = '0', formatCode = '' }) {
      if (name === 'cellXfs') inCells = true;
      if (name === 'numFmt') own.set(numFmtId, readFormat(formatCode));
      if (name === 'xf' && inCells) emit(own.get(numFmtId) ?? builtInFormat(Number(numFmtId)));
    },
    close(name) {
      if (name === 'cellXfs') inCells = false;
    },
  }));
}

/** What stands in these small parts, but no more than a workbook can have of it. */
const ITEMS_MAX = 100_000;

async function collect<T>(
  archive: Archive,
  part: string,
  limits: ImportLimits,
  handlerOf: (emit: (item: T) => void) => XmlHandler,
): Promise<T[]> {
  const items: T[] = [];
  for await (const item of readXml<T>(archive.read(part), limits, handlerOf))
    if (items.push(item) > ITEMS_MAX) throw damaged(`its part ${part} lists more than ${ITEMS_MAX} things`);
  return items;
}
