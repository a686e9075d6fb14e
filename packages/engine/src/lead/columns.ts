import { CarillonError } from '@carillon/contract';
import type { ImportLimits } from './limits.ts';
import { cut, plain } from './text.ts';

/** The fields of a lead that a column may be mapped to. */
export const MAPPED_FIELDS = [
  'phone',
  'name',
  'external_id',
  'time_zone',
  'extension',
  'consent_source',
  'consent_at',
  'consent_text',
] as const;
type Field = (typeof MAPPED_FIELDS)[number];

/** Which column holds what, by its header. What is left out is recognised by the header. */
export type Mapping = Partial<Record<Field, string | undefined>>;

/** Where in a line each field stands, counted from 0. */
export interface Columns extends Record<Exclude<Field, 'phone' | 'name'>, number | null> {
  phone: number;
  /** Joined by a space: one column, or first and last name. */
  name: number[];
  /** Every other column, under its header's text. */
  attributes: { index: number; key: string }[];
  count: number;
}

/**
 * Headers without spaces, punctuation and case. Groups of phone columns in the order in which one is preferred: a
 * mobile reaches the person, a landline a household or an office.
 */
const PHONES: readonly ReadonlySet<string>[] = [
  new Set(
    `mobile mobilephone phonemobile mobiletel mobilenumber mobileno mobilephonenumber cell cellphone cellnumber cellular cellphonenumber
     נייד טלפוןנייד מספרנייד מסנייד מספרטלפוןנייד טלנייד סלולרי טלפוןסלולרי מספרסלולרי סלולר פלאפון מספרפלאפון`.split(
      /\s+/,
    ),
  ),
  new Set(
    `phone phonenumber phoneno telephone telephonenumber telephoneno tel telno telnumber msisdn e164
     contactnumber contactphone customerphone primaryphone mainphone
     טלפון מספרטלפון מסטלפון מספרהטלפון טל טלפוןראשי`.split(/\s+/),
  ),
  new Set(
    `landline homephone phonehome workphone phonework officephone businessphone otherphone secondaryphone
     phone1 phone2 phone3 telephone1 telephone2 tel1 tel2 phone01 phone02
     טלפוןבבית טלפוןבית טלפוןקווי טלפוןבעבודה טלפוןעבודה טלפוןמשרד טלפוןנוסף טלפון1 טלפון2 טלפון3`.split(/\s+/),
  ),
  new Set(['number', 'contact', 'מספר']),
];
const NAME = new Set(
  `name fullname customername clientname contactname leadname displayname
   שם שםמלא שםלקוח שםהלקוח שםלקוחה שםאישקשר אישקשר שםהליד שםפרטיומשפחה שםומשפחה`.split(/\s+/),
);
const FIRST_NAME = new Set('firstname givenname forename fname שםפרטי פרטי'.split(' '));
const LAST_NAME = new Set('lastname surname familyname lname שםמשפחה משפחה'.split(' '));
const OTHERS: Readonly<Record<Exclude<Field, 'phone' | 'name'>, ReadonlySet<string>>> = {
  external_id: new Set(
    `id externalid crmid leadid customerid clientid contactid recordid
     מזהה מזההליד מזההלקוח מספרלקוח מסלקוח קודלקוח מזההחיצוני`.split(/\s+/),
  ),
  time_zone: new Set('timezone tz אזורזמן'.split(' ')),
  extension: new Set('extension ext phoneextension phoneext extensionnumber שלוחה מספרשלוחה'.split(' ')),
  consent_source: new Set('consentsource optinsource consentfrom מקורהסכמה מקורההסכמה מקוראישור מקורהאישור'.split(' ')),
  consent_at: new Set(
    `consentat consenttime consentdate consenttimestamp consentgivenat optinat optintime optindate
     תאריךהסכמה תאריךההסכמה מועדהסכמה מועדההסכמה זמןהסכמה תאריךאישור`.split(/\s+/),
  ),
  consent_text: new Set('consenttext consentwording optintext נוסחהסכמה נוסחההסכמה טקסטהסכמה'.split(' ')),
};

/**
 * Recognises a file's columns by their headers, in English or Hebrew. A mapping wins over them. Of several columns that
 * may hold the phone number the best group is taken (mobile, then phone, then home or work), and the others are kept as
 * attributes; two of the same group are for a person to choose from.
 *
 * Throws `import_no_phone_column`, `import_phone_column_ambiguous`, `import_broken` (a header out of bounds) and
 * `invalid_request` (a mapped column that is not there).
 */
export function recogniseColumns(header: readonly string[], mapping: Mapping, limits: ImportLimits): Columns {
  checkBounds(header, limits);
  const shapes = header.map(shape);
  const phone = mapped(header, mapping, 'phone') ?? choosePhone(header, shapes);
  const first = (names: ReadonlySet<string>) => shapes.findIndex((name, index) => index !== phone && names.has(name));
  const orNull = (index: number) => (index < 0 ? null : index);
  const name = mapped(header, mapping, 'name') ?? orNull(first(NAME));
  const parts = [first(FIRST_NAME), first(LAST_NAME)].filter((index) => index >= 0);
  const other = (field: keyof typeof OTHERS) => mapped(header, mapping, field) ?? orNull(first(OTHERS[field]));
  const columns = {
    phone,
    name: name === null ? parts : [name],
    external_id: other('external_id'),
    time_zone: other('time_zone'),
    extension: other('extension'),
    consent_source: other('consent_source'),
    consent_at: other('consent_at'),
    consent_text: other('consent_text'),
  };
  const { name: names, ...singles } = columns;
  const taken = new Set([...names, ...Object.values(singles)]);
  return { ...columns, attributes: attributeKeys(header, taken), count: header.length };
}

/** The same columns where a file has brought new ones since: those become attributes. Throws `import_broken`. */
export function extendColumns(columns: Columns, header: readonly string[], limits: ImportLimits): Columns {
  checkBounds(header, limits);
  const { phone, name, attributes: _attributes, count: _count, ...singles } = columns;
  const taken = new Set([phone, ...name, ...Object.values(singles)]);
  return { ...columns, attributes: attributeKeys(header, taken), count: header.length };
}

function checkBounds(header: readonly string[], limits: ImportLimits): void {
  const broken = (problem: string) => new CarillonError('import_broken', { line: 1, problem });
  if (header.length > limits.import_columns) throw broken(`it has more than ${limits.import_columns} columns`);
  const long = header.find((name) => name.length > limits.import_column_name_chars);
  if (long !== undefined)
    throw broken(`the column name "${cut(long, 40)}…" is longer than ${limits.import_column_name_chars} characters`);
}

/** A header without what people write differently: `Phone No.`, `phone_no`, `מס' טלפון` and `מס׳ טלפון` are one each. */
function shape(header: string): string {
  return plain(header)
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]/gu, '');
}

function mapped(header: readonly string[], mapping: Mapping, field: Field): number | null {
  const wanted = mapping[field];
  if (wanted === undefined) return null;
  const same = (name: string) => plain(name).toLowerCase() === plain(wanted).toLowerCase();
  const index = header.findIndex(same);
  if (index >= 0) return index;
  const columns = shown(header);
  if (field === 'phone') throw new CarillonError('import_no_phone_column', { columns, wanted });
  throw new CarillonError('invalid_request', {
    problem: `there is no column "${wanted}" (${field}=${wanted}) among: ${columns}`,
  });
}

function choosePhone(header: readonly string[], shapes: readonly string[]): number {
  for (const group of PHONES) {
    const found = shapes.flatMap((name, index) => (group.has(name) ? [index] : []));
    const [only, another] = found;
    if (only === undefined) continue;
    if (another === undefined) return only;
    const columns = shown(found.map((index) => header[index] ?? ''));
    throw new CarillonError('import_phone_column_ambiguous', { columns });
  }
  throw new CarillonError('import_no_phone_column', { columns: shown(header) });
}

const LIKE_A_NUMBER = /\d(?:[\s().-]*\d){6}/;

/** For a message: the first twenty. What is no header but somebody's number and name is not repeated. */
export function shown(header: readonly string[]): string {
  const line = header.some((name) => LIKE_A_NUMBER.test(name));
  if (line) return shown(header.map((_, index) => `column ${index + 1}`));
  const names = header.slice(0, 20).map((name) => cut(plain(name), 40) || '(no name)');
  return names.join(', ') + (header.length > 20 ? ', …' : '');
}

/** A column without a name, or with one that was there before, still gets a key of its own: nothing is dropped. */
function attributeKeys(header: readonly string[], taken: ReadonlySet<number | null>): Columns['attributes'] {
  const used = new Set<string>();
  return header.flatMap((name, index) => {
    if (taken.has(index)) return [];
    const bare = plain(name) || `column ${index + 1}`;
    const key = used.has(bare) ? `${bare} (column ${index + 1})` : bare;
    used.add(key);
    return [{ index, key }];
  });
}
