import type { UglyFile } from '../import-ugly.test.ts';

/** Text in an 8-bit code page. */
function in8Bit(text: string, page: 'hebrew' | 'western' | 'cyrillic'): Buffer {
  return Buffer.from(
    [...text].map((char) => {
      const code = char.codePointAt(0) ?? 0;
      if (code < 0x80) return code;
      if (page === 'hebrew' && code >= 0x5d0 && code <= 0x5ea) return code - 0x5d0 + 0xe0;
      if (page === 'cyrillic' && code >= 0x410 && code <= 0x44f) return code - 0x410 + 0xc0;
      if (page === 'western' && code >= 0xa0 && code <= 0xff) return code;
      throw new Error(`${char} is not in this code page`);
    }),
  );
}

const utf16be = (text: string) => Buffer.from(text, 'utf16le').swap16();
const HEBREW = 'שם;טלפון;עיר\r\nדנה כהן;050-1000001;חיפה\r\nיוסי בע"מ;0501000002;לוד\r\n';
const TWO = [
  ['501000001', 'דנה כהן'],
  ['501000002', 'יוסי בע"מ'],
] as const;
const DANA = [['501000001', 'Dana']] as const;

const ENCODED: readonly UglyFile[] = [
  {
    name: 'Excel’s CSV in Hebrew: windows-1255, semicolons',
    bytes: in8Bit(HEBREW, 'hebrew'),
    leads: TWO,
    attributes: { עיר: 'חיפה' },
    file: { encoding: 'windows-1255', separator: ';' },
  },
  {
    name: 'an English header, and Hebrew first after 70,000 lines of ASCII',
    bytes: Buffer.concat([
      Buffer.from(`phone,name\n${',\n'.repeat(70_000)}0501000001,`),
      in8Bit('דנה כהן\n', 'hebrew'),
    ]),
    leads: [['501000001', 'דנה כהן']],
    file: { encoding: 'windows-1255' },
  },
  {
    name: 'Excel’s "Unicode text": UTF-16 with a BOM, tabs',
    bytes: Buffer.from(`\uFEFF${HEBREW.replaceAll(';', '\t')}`, 'utf16le'),
    leads: TWO,
    file: { encoding: 'utf-16le', separator: '\t' },
  },
  {
    name: 'UTF-16 with a BOM, the other way round',
    bytes: utf16be(`\uFEFF${HEBREW}`),
    leads: TWO,
    file: { encoding: 'utf-16be', separator: ';' },
  },
  { name: 'UTF-16 without a BOM', bytes: Buffer.from(HEBREW, 'utf16le'), leads: TWO, file: { encoding: 'utf-16le' } },
  {
    name: 'UTF-16 without a BOM, the other way round',
    bytes: utf16be(HEBREW),
    leads: TWO,
    file: { encoding: 'utf-16be' },
  },
  { name: 'UTF-8 with a BOM', bytes: `\uFEFF${HEBREW}`, leads: TWO, file: { encoding: 'utf-8', separator: ';' } },
  { name: 'UTF-8 without one', bytes: HEBREW, leads: TWO, file: { encoding: 'utf-8' } },
  {
    name: 'Western accents: windows-1252',
    bytes: in8Bit('phone,name\n0501000001,René Müller\n0501000002,Zoë\n', 'western'),
    leads: [
      ['501000001', 'René Müller'],
      ['501000002', 'Zoë'],
    ],
    file: { encoding: 'windows-1252' },
  },
  {
    name: 'Cyrillic in an 8-bit code page, which is named',
    bytes: in8Bit('phone,name\n0501000001,Анна\n', 'cyrillic'),
    options: { encoding: 'windows-1251' },
    leads: [['501000001', 'Анна']],
    file: { encoding: 'windows-1251' },
  },
  {
    name: 'Cyrillic in an 8-bit code page, which nobody names',
    bytes: in8Bit('phone,name\n0501000001,Анна Ы Яковлева\n', 'cyrillic'),
    error: ['import_encoding_unknown', /encoding=ENCODING/],
  },
  {
    name: 'UTF-8 with one damaged letter',
    bytes: Buffer.concat([Buffer.from(`phone,name\n0501000001,${'דנה '.repeat(9)}`), Buffer.from([0xd7, 0x0a])]),
    error: ['import_not_text', /byte 86/],
  },
  {
    name: 'Hebrew that was read as another code page is kept as it is',
    bytes: 'phone,name\n0501000001,ãðä\n',
    leads: [['501000001', 'ãðä']],
  },
];

const DIVIDED: readonly UglyFile[] = [
  { name: 'commas', bytes: 'phone,name\n0501000001,Dana\n', leads: DANA, file: { separator: ',' } },
  {
    name: 'tabs, and commas in the names',
    bytes: 'phone\tname\n0501000001\tDana\n0501000002\tLevi, Yossi\n',
    leads: [...DANA, ['501000002', 'Levi, Yossi']],
    file: { separator: '\t' },
  },
  { name: 'bars', bytes: 'phone|name\n0501000001|Dana\n', leads: DANA, file: { separator: '|' } },
  {
    name: 'Excel’s line that tells the separator',
    bytes: 'sep=;\r\nphone;name\r\n0501000001;Dana\r\n',
    leads: DANA,
    file: { separator: ';' },
  },
  {
    name: 'semicolons, with decimal commas in every line',
    bytes: 'debt;phone;name\n12,50;0501000001;Dana\n7,90;0501000002;Yossi\n',
    leads: [...DANA, ['501000002', 'Yossi']],
    attributes: { debt: '12,50' },
    file: { separator: ';' },
  },
  {
    name: 'one column, without any separator',
    bytes: 'טלפון\n0501000001\n0501000002\n0501000001\n',
    leads: [
      ['501000001', null],
      ['501000002', null],
    ],
    duplicates: 1,
    reasons: { repeated_in_file: 1 },
  },
  {
    name: 'line breaks, quotes and separators inside quotes',
    bytes: 'phone,name,note\n0501000001,"Dana ""D"" Levi, Dr.","call\r\nafter 5"\n',
    leads: [['501000001', 'Dana "D" Levi, Dr.']],
    attributes: { note: 'call\r\nafter 5' },
  },
  {
    name: 'quotes of Hebrew abbreviations',
    bytes: 'טלפון,שם\n0501000001,ד"ר כהן\n0501000002,עו"ד לוי בע"מ\n',
    leads: [
      ['501000001', 'ד"ר כהן'],
      ['501000002', 'עו"ד לוי בע"מ'],
    ],
  },
  { name: 'old Mac line ends', bytes: 'phone,name\r0501000001,Dana\r', leads: DANA },
  {
    name: 'blank lines and lines of separators everywhere',
    bytes: '\n\nphone,name\n\n,\n0501000001,Dana\n ,  \n\n',
    leads: DANA,
  },
  {
    name: 'more and fewer values than columns',
    bytes: 'phone,name,city\n0501000001\n0501000002,Dana,Lod,,,\n0501000003,Yossi,Lod,more\n',
    leads: [
      ['501000001', null],
      ['501000002', 'Dana'],
    ],
    reasons: { too_many_columns: 1 },
  },
  { name: 'no line end at the end', bytes: 'phone,name\n0501000001,Dana', leads: DANA },
  {
    name: 'a quote that is never closed',
    bytes: 'phone,name\n0501000001,Dana\n0501000002,"Yossi\n',
    error: ['import_broken', /line 3/],
  },
];

const CELLS: readonly UglyFile[] = [
  {
    name: 'numbers that lost their zero, and floats of them',
    bytes: 'phone\n501000001\n501000002.0\n',
    leads: [
      ['501000001', null],
      ['501000002', null],
    ],
  },
  {
    name: 'numbers in scientific notation',
    bytes: 'phone\n9.72501E+11\n"9,72501E+11"\n5.01E+08\n0501000001\n',
    leads: [['501000001', null]],
    reasons: { scientific_notation: 3 },
  },
  {
    name: 'formulas that keep a number a text, and an apostrophe that does',
    bytes: 'phone,id\n="0501000001",="007"\n"=""0501000002""",8\n\'0501000003,9\n',
    leads: [
      ['501000001', null],
      ['501000002', null],
      ['501000003', null],
    ],
  },
  {
    name: 'direction marks, no-break spaces, soft hyphens',
    bytes:
      '\u200Fטלפון\u200F,שם\n\u202A+972-50\u202C\u00A0100\u00A00001\u200E,\u2067דנה\u00A0כהן\u2069\n\u061C050\u00AD1000002,\uFEFFיוסי\n',
    leads: [
      ['501000001', 'דנה כהן'],
      ['501000002', 'יוסי'],
    ],
  },
  {
    name: 'full-width and Arabic digits',
    bytes: 'phone\n０５０１０００００１\n٠٥٠١٠٠٠٠٠٢\n۰۵۰۱۰۰۰۰۰۳\n',
    leads: [
      ['501000001', null],
      ['501000002', null],
      ['501000003', null],
    ],
  },
  {
    name: 'extensions',
    bytes: 'phone,name\n03-1234567 x12,Dana\n031234568 שלוחה 7,Yossi\n031234567 ext. 9,Ruth\n',
    leads: [
      ['31234567', 'Dana'],
      ['31234568', 'Yossi'],
    ],
    duplicates: 1,
    reasons: { repeated_in_file: 1 },
    attributes: { extension: '12' },
  },
  {
    name: 'several numbers in one cell',
    bytes: 'phone\n0501000001 / 0501000002\n"0501000003, 0501000004"\n',
    reasons: { several_numbers: 2 },
  },
  {
    name: 'letters, too short, too long, impossible, signs, dates, nothing',
    bytes: 'phone,name\nasdf,a\n12,b\n05010000011111111,c\n0621234567,d\n*2700,e\n1/2/2026,f\n,g\n',
    reasons: { letters: 1, too_short: 1, too_long: 1, impossible: 1, signs: 1, date: 1, empty: 1 },
  },
  {
    name: 'the same number in three ways',
    bytes: 'phone\n050-1000001\n+972 50 100 0001\n00972501000001\n',
    leads: [['501000001', null]],
    duplicates: 2,
    reasons: { repeated_in_file: 2 },
  },
  {
    name: 'foreign numbers, and national ones of a named country',
    bytes: 'phone\n(202) 555-0111\n+44 7700 900123\n',
    options: { country: 'US' },
    leads: [
      ['+12025550111', null],
      ['+447700900123', null],
    ],
  },
  {
    name: 'texts that a spreadsheet would execute',
    bytes: 'phone,name,note\n0501000001,"=HYPERLINK(""x"")",\'+1\n',
    leads: [['501000001', '=HYPERLINK("x")']],
    attributes: { note: '+1' },
  },
  {
    name: 'time zones: given, wrong, and by the number',
    bytes: 'phone,tz\n0501000001,Europe/Paris\n0501000002,GMT+3\n0501000003,\n',
    leads: [
      ['501000001', null],
      ['501000003', null],
    ],
    reasons: { unknown_time_zone: 1 },
  },
  {
    name: 'consents: days first, in the future, no date',
    bytes:
      'phone,consent date,consent source\n0501000001,31/01/2026 14:00,web form\n0501000002,01/01/2999,web form\n0501000003,soon,web form\n0501000004,,\n',
    leads: [
      ['501000001', null],
      ['501000004', null],
    ],
    reasons: { unknown_consent_time: 2 },
    file: { columns: { consent: ['consent source', 'consent date'] } },
  },
  {
    name: 'one external id for two people',
    bytes: 'phone,id\n0501000001,7\n0501000002,7\n',
    leads: [
      ['501000001', null],
      ['501000002', null],
    ],
    reasons: { external_id_of_another: 1 },
  },
];

const HEADED: readonly UglyFile[] = [
  {
    name: 'no header',
    bytes: '0501000001,Dana,Lod\n0501000002,Yossi,Acre\n',
    leads: [...DANA, ['501000002', 'Yossi']],
    attributes: { 'column 3': 'Lod' },
    file: { header: false, columns: { phone: 'column 1', name: ['column 2'] } },
  },
  {
    name: 'no header, and two numbers in each line',
    bytes: '0501000001,031234567,Dana\n',
    error: ['import_phone_column_ambiguous', /column 1, column 2/],
  },
  {
    name: 'no header, two numbers, and one is named',
    bytes: '0501000001,031234567,Dana\n',
    options: { mapping: { phone: 'column 1' } },
    leads: DANA,
    attributes: { 'column 2': '031234567' },
  },
  {
    name: 'a title above the header',
    bytes: 'Customers of October,,\n,,\nphone,name,city\n0501000001,Dana,Lod\n',
    leads: DANA,
    attributes: { city: 'Lod' },
  },
  {
    name: 'first and last name in Hebrew, and a mobile beside a phone',
    bytes: 'שם משפחה,שם פרטי,טלפון,נייד\nכהן,דנה,03-1234567,050-1000001\n',
    leads: [['501000001', 'דנה כהן']],
    attributes: { טלפון: '03-1234567' },
    file: { columns: { phone: 'נייד', name: ['שם פרטי', 'שם משפחה'] } },
  },
  {
    name: 'two columns that may be the phone’s',
    bytes: 'phone,telephone,name\n0501000001,0501000002,Dana\n',
    error: ['import_phone_column_ambiguous', /phone, telephone. Name one with phone=COLUMN/],
  },
  {
    name: 'two columns that may be the phone’s, one of them named',
    bytes: 'phone,telephone,name\n0501000002,0501000001,Dana\n',
    options: { mapping: { phone: 'telephone' } },
    leads: DANA,
  },
  {
    name: 'no phone column',
    bytes: 'name,city\nDana,Lod\nYossi,Acre\n',
    error: ['import_no_phone_column', /among: name, city/],
  },
  {
    name: 'a header that nobody knows',
    bytes: 'Handy,Vorname\n0501000001,Dana\n',
    error: ['import_no_phone_column', /among: Handy, Vorname/],
  },
  { name: 'a header alone', bytes: 'phone,name\n', error: ['import_no_lines', /no line below/] },
  { name: 'nothing', bytes: '', error: ['import_file_empty', /empty/] },
  { name: 'a million empty lines', bytes: '\n'.repeat(1_000_000), error: ['import_file_empty', /empty/] },
  {
    name: 'a million empty lines between header and lead',
    bytes: `phone,name\n${'\r\n'.repeat(1_000_000)}0501000001,Dana\n`,
    leads: DANA,
  },
];

const OBJECTS: readonly UglyFile[] = [
  {
    name: 'NDJSON: keys that come and go, values of every kind, lines that are none',
    bytes:
      '{"phone":"050-1000001","name":"Dana","age":30,"vip":true,"tags":["a","b"],"home":{"city":"Lod"}}\n\nnot json\n[1]\n{"name":"Yossi","phone":501000002,"late":"x"}\n{"phone":null}\n',
    leads: [...DANA, ['501000002', 'Yossi']],
    reasons: { no_json_object: 2, empty: 1 },
    attributes: { age: '30', vip: 'true', tags: 'a,b', home: '{"city":"Lod"}' },
    file: { format: 'ndjson', separator: null },
  },
  {
    name: 'NDJSON: attributes of their own, NULs and half characters',
    bytes: '{"phone":"0501000001","name":"D\\u0000ana","attributes":{"a":"x\\ud800y"}}\n',
    leads: DANA,
    attributes: { a: 'x\uFFFDy' },
  },
  {
    name: 'NDJSON: a number as a number, in full',
    bytes: '{"phone":972501000001}\n{"phone":9.72501E+11}\n',
    leads: [
      ['501000001', null],
      ['501000000', null],
    ],
  },
  {
    name: 'JSON in one array',
    bytes: '[{"phone":"0501000001"}]',
    error: ['import_format_unsupported', /one object on each line/],
  },
  {
    name: 'JSON objects of something else',
    bytes: '{"a":\n1}\n',
    error: ['import_broken', /line 1: it is no JSON object/],
  },
];

const OTHERS: readonly UglyFile[] = [
  {
    name: 'a web page under the name .xls',
    bytes: '<html><table><tr><td>phone</td></tr></table>',
    error: ['import_format_unsupported', /web page/],
  },
  {
    name: 'an old .xls',
    bytes: Buffer.concat([Buffer.from('d0cf11e0a1b11ae1', 'hex'), Buffer.alloc(600)]),
    error: ['import_format_unsupported', /older Excel file/],
  },
  {
    name: 'an XLSX with a password',
    bytes: Buffer.concat([
      Buffer.from('d0cf11e0a1b11ae1', 'hex'),
      Buffer.alloc(504),
      Buffer.from('EncryptedPackage', 'utf16le'),
    ]),
    error: ['import_format_unsupported', /with a password/],
  },
  { name: 'a PDF', bytes: '%PDF-1.7\n', error: ['import_format_unsupported', /a PDF/] },
  { name: 'zeros', bytes: Buffer.alloc(5_000), error: ['import_not_text', /byte 1/] },
  {
    name: 'a line of 2 MB',
    bytes: `phone,name\n0501000001,${'x'.repeat(2_000_000)}\n`,
    error: ['import_broken', /line 2: it is longer than 65536 bytes/],
  },
];

export const UGLY_TEXTS: readonly UglyFile[] = [...ENCODED, ...DIVIDED, ...CELLS, ...HEADED, ...OBJECTS, ...OTHERS];
