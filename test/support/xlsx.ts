import { crc32, deflateRawSync } from 'node:zlib';

/** A zip archive of these parts, as small as one can be. `stored`: without compression. */
export function zip(parts: Readonly<Record<string, string | Buffer>>, options: { stored?: boolean } = {}): Buffer {
  const files: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, content] of Object.entries(parts)) {
    const bytes = Buffer.from(content as string);
    const packed = options.stored ? bytes : deflateRawSync(bytes);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x800, 2);
    common.writeUInt16LE(options.stored ? 0 : 8, 4);
    common.writeUInt32LE(crc32(bytes), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(bytes.length, 18);
    common.writeUInt16LE(Buffer.byteLength(name), 22);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(offset, 10);
    const file = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), common, Buffer.from(name), packed]);
    directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), common, place, Buffer.from(name));
    files.push(file);
    offset += file.length;
  }
  const list = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(list.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...files, list, end]);
}

/** A text is shared, as Excel does it; a number is one; `xml` is what stands inside the row for this cell. */
export type Cell = string | number | null | { n: number | string; style: number } | { xml: string };

export interface SheetSpec {
  name?: string;
  state?: 'visible' | 'hidden' | 'veryHidden';
  rows: readonly (readonly Cell[])[];
}

export interface BookSpec {
  sheets?: readonly SheetSpec[];
  /** Format codes; a cell's style 1 is the first. */
  formats?: readonly string[];
  date1904?: boolean;
  /** Replaces or adds parts. */
  parts?: Readonly<Record<string, string | Buffer>>;
  stored?: boolean;
}

const escape = (text: string) =>
  text.replace(/[&<>"]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign] ?? sign);

const letters = (column: number): string =>
  (column >= 26 ? letters(Math.floor(column / 26) - 1) : '') + String.fromCharCode(65 + (column % 26));

/** The parts of a workbook. */
export function bookParts(rows: readonly (readonly Cell[])[], spec: BookSpec = {}): Record<string, string | Buffer> {
  const sheets = spec.sheets ?? [{ rows }];
  const texts = new Map<string, number>();
  const numberOf = (text: string) => texts.get(text) ?? (texts.set(text, texts.size), texts.size - 1);
  const cellXml = (cell: Cell, at: string): string => {
    if (cell === null) return '';
    if (typeof cell === 'string') return `<c r="${at}" t="s"><v>${numberOf(cell)}</v></c>`;
    if (typeof cell === 'number') return `<c r="${at}"><v>${cell}</v></c>`;
    return 'xml' in cell ? cell.xml : `<c r="${at}" s="${cell.style}"><v>${cell.n}</v></c>`;
  };
  const sheetXml = ({ rows: lines }: SheetSpec) =>
    `<?xml version="1.0" encoding="UTF-8"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>${lines
      .map(
        (cells, n) =>
          `<row r="${n + 1}">${cells.map((cell, m) => cellXml(cell, `${letters(m)}${n + 1}`)).join('')}</row>`,
      )
      .join('')}</sheetData></worksheet>`;
  const type = (name: string) => `http://schemas.openxmlformats.org/officeDocument/2006/relationships/${name}`;
  const link = (id: string, name: string, target: string) =>
    `<Relationship Id="${id}" Type="${type(name)}" Target="${target}"/>`;
  const sheetParts = Object.fromEntries(sheets.map((sheet, n) => [`xl/worksheets/sheet${n + 1}.xml`, sheetXml(sheet)]));
  const formats = spec.formats ?? [];
  return {
    '[Content_Types].xml': '<Types/>',
    '_rels/.rels': `<Relationships>${link('rId1', 'officeDocument', 'xl/workbook.xml')}</Relationships>`,
    'xl/workbook.xml': `<workbook xmlns:r="r"><workbookPr date1904="${spec.date1904 ? 1 : 0}"/><sheets>${sheets
      .map(
        ({ name = 'Sheet', state = 'visible' }, n) =>
          `<sheet name="${escape(name)}" sheetId="${n + 1}" state="${state}" r:id="rId${n + 1}"/>`,
      )
      .join('')}</sheets></workbook>`,
    'xl/_rels/workbook.xml.rels': `<Relationships>${sheets
      .map((_, n) => link(`rId${n + 1}`, 'worksheet', `worksheets/sheet${n + 1}.xml`))
      .join(
        '',
      )}${link('rId90', 'styles', 'styles.xml')}${link('rId91', 'sharedStrings', '/xl/sharedStrings.xml')}</Relationships>`,
    'xl/styles.xml': `<styleSheet><numFmts>${formats
      .map((code, n) => `<numFmt numFmtId="${164 + n}" formatCode="${escape(code)}"/>`)
      .join('')}</numFmts><cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs><xf numFmtId="0"/>${formats
      .map((_, n) => `<xf numFmtId="${164 + n}"/>`)
      .join('')}</cellXfs></styleSheet>`,
    ...sheetParts,
    'xl/sharedStrings.xml': `<sst>${[...texts.keys()].map((text) => `<si><t xml:space="preserve">${escape(text)}</t></si>`).join('')}</sst>`,
    ...spec.parts,
  };
}

/** A workbook of these rows, as Excel would save it. */
export function xlsx(rows: readonly (readonly Cell[])[], spec: BookSpec = {}): Buffer {
  return zip(bookParts(rows, spec), { stored: spec.stored ?? false });
}
