import type { UglyFile } from '../import-ugly.test.ts';
import { bookParts, type Cell, xlsx, zip } from '../../../../test/support/xlsx.ts';

const DANA = [['501000001', 'Dana']] as const;
const PLAIN: Cell[][] = [
  ['phone', 'name'],
  ['0501000001', 'Dana'],
];
/** A sheet as text, for what the builder would not write. */
const sheet = (inner: string) => ({
  parts: { 'xl/worksheets/sheet1.xml': `<worksheet><sheetData>${inner}</sheetData></worksheet>` },
});
const text = (value: string) => `<c t="inlineStr"><is><t>${value}</t></is></c>`;

export const UGLY_BOOKS: readonly UglyFile[] = [
  {
    name: 'XLSX: texts, empty rows and cells, extra columns',
    bytes: xlsx([
      ['טלפון', 'שם', null, 'עיר'],
      [],
      ['050-1000001', 'דנה', null, 'לוד'],
      [null, null, 'x'],
      ['0501000002'],
    ]),
    leads: [
      ['501000001', 'דנה'],
      ['501000002', null],
    ],
    reasons: { empty: 1 },
    attributes: { עיר: 'לוד' },
    file: { format: 'xlsx', encoding: null, sheet: 'Sheet' },
  },
  {
    name: 'XLSX: numbers without their zero, in full, in any notation',
    bytes: xlsx([
      ['phone', 'id'],
      [501000001, 7],
      [972501000002, 8.5],
      [{ n: '9.72501000003E+11', style: 0 }, 1e21],
      [123, 1],
      [612345678, 2],
    ]),
    leads: [
      ['501000001', null],
      ['501000002', null],
      ['501000003', null],
    ],
    reasons: { zeros_lost: 2 },
  },
  {
    name: 'XLSX: texts in scientific notation',
    bytes: xlsx([['phone'], ['9.72E+11'], ['0501000001']]),
    leads: [['501000001', null]],
    reasons: { scientific_notation: 1 },
  },
  {
    name: 'XLSX: numbers that are shown with zeros and dashes',
    bytes: xlsx(
      [
        ['phone', 'id'],
        [
          { n: 501000001, style: 1 },
          { n: 7, style: 2 },
        ],
        [
          { n: 501000002, style: 3 },
          { n: 8, style: 2 },
        ],
      ],
      { formats: ['000-0000000', '0000', '"0"#########'] },
    ),
    leads: [
      ['501000001', null],
      ['501000002', null],
    ],
  },
  {
    name: 'XLSX: dates, times, decimals, truth, errors',
    bytes: xlsx(
      [
        ['phone', 'date', 'time', 'both', 'debt', 'vip', 'bad'],
        [
          '0501000001',
          { n: 46053, style: 1 },
          { n: 0.5, style: 2 },
          { n: '46053.58333', style: 3 },
          12.5,
          { xml: '<c r="F2" t="b"><v>1</v></c>' },
          { xml: '<c r="G2" t="e"><v>#N/A</v></c>' },
        ],
      ],
      { formats: ['dd/mm/yyyy', '[h]:mm', 'yyyy\\-mm\\-dd hh:mm'] },
    ),
    leads: [['501000001', null]],
    attributes: {
      date: '2026-01-31',
      time: '12:00:00',
      both: '2026-01-31 14:00',
      debt: '12.5',
      vip: 'TRUE',
      bad: '#N/A',
    },
  },
  {
    name: 'XLSX: dates of the 1904 system',
    bytes: xlsx(
      [
        ['phone', 'date'],
        ['0501000001', { n: 44591, style: 1 }],
      ],
      { formats: ['d.m.yy'], date1904: true },
    ),
    leads: [['501000001', null]],
    attributes: { date: '2026-01-31' },
  },
  {
    name: 'XLSX: a date where a number should be',
    bytes: xlsx([['phone'], [{ n: 46053, style: 1 }]], { formats: ['dd/mm/yyyy'] }),
    reasons: { date: 1 },
  },
  {
    name: 'XLSX: a consent’s date as a date',
    bytes: xlsx(
      [
        ['phone', 'consent date'],
        ['0501000001', { n: 46000, style: 1 }],
      ],
      { formats: ['d/m/yy'] },
    ),
    leads: [['501000001', null]],
  },
  {
    name: 'XLSX: formulas with the values that were saved',
    bytes: xlsx([
      ['phone', 'name'],
      [
        { xml: '<c r="A2" t="str"><f>"0"&amp;B9</f><v>0501000001</v></c>' },
        { xml: '<c r="B2" t="str"><f>X</f><v>Dana</v></c>' },
      ],
      [{ xml: '<c r="A3"><f>1+1</f><v>501000002</v></c>' }],
      [{ xml: '<c r="A4"><f>1+1</f></c>' }],
    ]),
    leads: [...DANA, ['501000002', null]],
  },
  {
    name: 'XLSX: inline texts, cells and rows without places, prefixed names',
    bytes: xlsx([], {
      parts: {
        'xl/worksheets/sheet1.xml':
          '<x:worksheet xmlns:x="m"><x:sheetData><x:row><x:c t="inlineStr"><x:is><x:t>phone</x:t></x:is></x:c><x:c t="inlineStr"><x:is><x:t>name</x:t></x:is></x:c></x:row><x:row><x:c t="inlineStr"><x:is><x:t>0501000001</x:t></x:is></x:c><x:c t="inlineStr"><x:is><x:t>Dana</x:t></x:is></x:c></x:row></x:sheetData></x:worksheet>',
      },
    }),
    leads: DANA,
  },
  {
    name: 'XLSX: rich text, pronunciation, escaped line ends',
    bytes: xlsx([], {
      ...sheet(
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row><row r="2"><c r="A2" t="s"><v>2</v></c><c r="B2" t="s"><v>3</v></c></row>',
      ),
      parts: {
        ...sheet(
          '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row><row r="2"><c r="A2" t="s"><v>2</v></c><c r="B2" t="s"><v>3</v></c></row>',
        ).parts,
        'xl/sharedStrings.xml':
          '<sst><si><t>phone</t></si><si><t>name</t></si><si><r><t>050</t></r><r><rPr><b/></rPr><t>1000001</t></r></si><si><t>Da</t><rPh sb="0" eb="1"><t>XX</t></rPh><t>na_x000D_</t></si></sst>',
      },
    }),
    leads: DANA,
  },
  {
    name: 'XLSX: several sheets, the first of them hidden',
    bytes: xlsx([], {
      sheets: [
        { name: 'old', state: 'hidden', rows: [['phone'], ['0501000009']] },
        { name: 'לקוחות', rows: PLAIN },
        { name: 'more', rows: [['phone'], ['0501000008']] },
      ],
    }),
    leads: DANA,
    file: { sheet: 'לקוחות' },
  },
  {
    name: 'XLSX: several sheets, one of them named',
    bytes: xlsx([], {
      sheets: [
        { name: 'old', rows: [['phone'], ['0501000009']] },
        { name: 'New ', rows: PLAIN },
      ],
    }),
    options: { sheet: 'new' },
    leads: DANA,
    file: { sheet: 'New ' },
  },
  {
    name: 'XLSX: a sheet that is not there',
    bytes: xlsx(PLAIN),
    options: { sheet: 'x' },
    error: ['import_sheet_not_found', /"x" among: Sheet/],
  },
  { name: 'XLSX: an empty sheet', bytes: xlsx([]), error: ['import_file_empty', /empty/] },
  {
    name: 'XLSX: a title above the header, and no header at all',
    bytes: xlsx([['0501000001', 'Dana']]),
    leads: DANA,
    file: { header: false },
  },
  { name: 'XLSX: not compressed', bytes: xlsx(PLAIN, { stored: true }), leads: DANA },
  {
    name: 'XLSX: strict dialect, odd places of its parts',
    bytes: zip({
      '_rels/.rels':
        '<Relationships><Relationship Id="a" Type="http://purl.oclc.org/ooxml/officeDocument/relationships/officeDocument" Target="/book.xml"/></Relationships>',
      'book.xml': '<workbook xmlns:q="q"><sheets><sheet name="S" q:id="b"/></sheets></workbook>',
      '_rels/book.xml.rels':
        '<Relationships><Relationship Id="b" Type="http://purl.oclc.org/ooxml/officeDocument/relationships/worksheet" Target="s/1.xml"/></Relationships>',
      's/1.xml': `<worksheet><sheetData><row>${text('phone')}</row><row>${text('0501000001')}</row></sheetData></worksheet>`,
    }),
    leads: [['501000001', null]],
  },
  {
    name: 'XLSX: a million empty rows',
    bytes: xlsx(
      [],
      sheet(
        `<row r="1">${text('phone')}${text('name')}</row>${'<row/>'.repeat(1_000_000)}<row>${text('0501000001')}${text('Dana')}</row>`,
      ),
    ),
    leads: DANA,
  },
  { name: 'XLSX: cut off', bytes: xlsx(PLAIN).subarray(0, -30), error: ['import_damaged', /save it again/] },
  { name: 'XLSX: broken XML', bytes: xlsx([], sheet('<row><c></row>')), error: ['import_damaged', /save it again/] },
  {
    name: 'XLSX: a part that is missing',
    bytes: zip({
      ...bookParts(PLAIN),
      'xl/_rels/workbook.xml.rels':
        '<Relationships><Relationship Id="rId1" Type="x/worksheet" Target="gone.xml"/></Relationships>',
    }),
    error: ['import_damaged', /gone.xml is missing/],
  },
  {
    name: 'XLSX: rows that go backwards',
    bytes: xlsx([], sheet(`<row r="5">${text('phone')}</row><row r="4">${text('1')}</row>`)),
    error: ['import_broken', /line 5/],
  },
  {
    name: 'XLSX: a text of 3 MB',
    bytes: xlsx([], sheet(`<row>${text('phone')}</row><row>${text('x'.repeat(3_000_000))}</row>`)),
    error: ['import_damaged', /longer than 1048576 bytes/],
  },
  {
    name: 'XLSX: a comment of 3 MB',
    bytes: xlsx([], sheet(`<!--${'<'.repeat(3_000_000)}-->`)),
    error: ['import_damaged', /longer than 1048576 bytes/],
  },
  {
    name: 'XLSX: a tag of 3 MB',
    bytes: xlsx([], sheet(`<row ${Array.from({ length: 300_000 }, (_, n) => `a${n}="1" `).join('')}/>`)),
    error: ['import_damaged', /longer than 1048576 bytes/],
  },
  {
    name: 'XLSX: elements without end inside each other',
    bytes: xlsx([], sheet('<a>'.repeat(500_000))),
    error: ['import_damaged', /64 deep/],
  },
  {
    name: 'XLSX: entities that would grow',
    bytes: xlsx([], {
      parts: {
        'xl/worksheets/sheet1.xml':
          '<!DOCTYPE a [<!ENTITY b "bbb">]><worksheet><sheetData><row><c t="str"><v>&b;</v></c></row></sheetData></worksheet>',
      },
    }),
    error: ['import_damaged', /entity/],
  },
  {
    name: 'XLSX: a row of 100,000 letters',
    bytes: xlsx([
      ['phone', 'a', 'b'],
      ['0501000001', 'x'.repeat(50_000), 'x'.repeat(50_000)],
    ]),
    error: ['import_broken', /line 2: its values are longer than 65536 bytes/],
  },
  {
    name: 'XLSX: a row of 17,000 columns',
    bytes: xlsx([], sheet(`<row>${'<c t="str"><v>x</v></c>'.repeat(17_000)}</row>`)),
    error: ['import_broken', /more than 200 columns/],
  },
  {
    name: 'XLSX: a bomb of 300 MB of blanks',
    bytes: xlsx([], { parts: { 'xl/worksheets/sheet1.xml': Buffer.alloc(300_000_000, ' ') } }),
    error: ['import_unpacks_too_large', /300000000 bytes/],
  },
  {
    name: 'XLSX: a bomb that lies about its size',
    bytes: lying(xlsx(PLAIN, { parts: { 'xl/worksheets/sheet1.xml': Buffer.alloc(50_000_000, ' ') } })),
    error: ['import_damaged', /too many bytes/],
  },
  {
    name: 'an OpenDocument sheet',
    bytes: zip({ mimetype: 'application/vnd.oasis.opendocument.spreadsheet', 'content.xml': '<a/>' }),
    error: ['import_format_unsupported', /OpenDocument/],
  },
  {
    name: 'a Word document',
    bytes: zip({ '_rels/.rels': '<a/>', 'word/document.xml': '<a/>' }),
    error: ['import_format_unsupported', /Word/],
  },
  { name: 'a binary workbook', bytes: zip({ 'xl/workbook.bin': 'x' }), error: ['import_format_unsupported', /xlsb/] },
  {
    name: 'a zip archive',
    bytes: zip({ 'leads.csv': 'phone\n0501000001\n' }),
    error: ['import_format_unsupported', /a zip archive/],
  },
];

/** Writes a small size into the archive's directory, where 50,000,000 stands. */
function lying(bytes: Buffer): Buffer {
  const claim = Buffer.alloc(4);
  claim.writeUInt32LE(50_000_000);
  for (let at = bytes.indexOf(claim); at >= 0; at = bytes.indexOf(claim, at)) bytes.writeUInt32LE(1_000, at);
  return bytes;
}
