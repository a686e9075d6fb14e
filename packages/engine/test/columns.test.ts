import { describe, expect, it } from 'vitest';
import { recogniseColumns } from '../src/lead/columns.ts';
import { defaultImportLimits } from '../src/lead/limits.ts';

const recognise = (header: string[], mapping = {}) => recogniseColumns(header, mapping, defaultImportLimits);
const refusal = (header: string[], mapping = {}) => {
  try {
    return recognise(header, mapping);
  } catch (error) {
    return error;
  }
};

describe('the phone column', () => {
  it.each([
    'phone',
    'Phone',
    ' PHONE NUMBER ',
    'phone_number',
    'PhoneNumber',
    'Phone No.',
    'tel',
    'Telephone',
    'mobile',
    'Mobile Phone',
    'cell',
    'Cell-Phone',
    'טלפון',
    'נייד',
    'מספר טלפון',
    "מס' טלפון",
    'מס׳ טלפון',
    'סלולרי',
    'טלפון נייד',
    '\uFEFFphone',
    '\u200Fטלפון\u200F',
    'home phone',
    'number',
  ])('is known by "%s"', (header) => {
    expect(recognise(['x', header, 'y'])).toMatchObject({ phone: 1 });
  });

  it('is the mobile, where there are others; those are kept as attributes', () => {
    expect(recognise(['Phone', 'Home phone', 'Mobile'])).toMatchObject({
      phone: 2,
      attributes: [
        { index: 0, key: 'Phone' },
        { index: 1, key: 'Home phone' },
      ],
    });
    expect(recognise(['טלפון בבית', 'טלפון'])).toMatchObject({ phone: 1 });
  });

  it('is for a person to choose, where two would do alike', () => {
    expect(refusal(['name', 'phone', 'tel'])).toMatchObject({
      code: 'import_phone_column_ambiguous',
      message: expect.stringContaining('phone, tel. Name one with phone=COLUMN'),
    });
    expect(recognise(['name', 'phone', 'tel'], { phone: 'Tel' })).toMatchObject({ phone: 2 });
  });

  it('is missed by naming what there is', () => {
    expect(refusal(['שם', '', 'city'])).toMatchObject({
      code: 'import_no_phone_column',
      details: { columns: 'שם, (no name), city' },
    });
    expect(refusal(['phone'], { phone: 'handy' })).toMatchObject({
      code: 'import_no_phone_column',
      details: { columns: 'phone', wanted: 'handy' },
    });
    const many = refusal(Array.from({ length: 30 }, (_, n) => `c${n}`));
    expect(many).toMatchObject({ details: { columns: expect.stringMatching(/c19, …$/) } });
  });

  it('is missed without repeating what is no header but a lead', () => {
    expect(refusal(['Dana Levi', '052-123 4567', 'Haifa'], { phone: 'mobile' })).toMatchObject({
      code: 'import_no_phone_column',
      details: { columns: 'column 1, column 2, column 3', wanted: 'mobile' },
    });
  });
});

describe('the other columns', () => {
  it('are known in English and Hebrew', () => {
    const english = recognise(['External ID', 'Full name', 'Phone', 'Time zone']);
    const found = { phone: 2, name: [1], external_id: 0, time_zone: 3, attributes: [], count: 4 };
    expect(english).toMatchObject(found);
    const hebrew = recognise(['מזהה', 'שם מלא', 'טלפון', 'אזור זמן']);
    expect(hebrew).toMatchObject(found);
    const consents = { consent_source: 1, consent_at: 2, consent_text: 3, extension: 4, attributes: [] };
    expect(recognise(['phone', 'Consent source', 'consent_date', 'Consent text', 'Ext.'])).toMatchObject(consents);
    expect(recognise(['טלפון', 'מקור ההסכמה', 'תאריך הסכמה', 'נוסח הסכמה', 'שלוחה'])).toMatchObject(consents);
  });

  it('join first and last name, in this order, unless there is a whole one', () => {
    expect(recognise(['Last name', 'First name', 'phone'])).toMatchObject({ name: [1, 0], attributes: [] });
    expect(recognise(['שם פרטי', 'שם משפחה', 'נייד'])).toMatchObject({ name: [0, 1] });
    expect(recognise(['שם פרטי', 'נייד'])).toMatchObject({ name: [0] });
    expect(recognise(['first name', 'name', 'phone'])).toMatchObject({
      name: [1],
      attributes: [{ index: 0, key: 'first name' }],
    });
  });

  it('follow a mapping against what their headers say', () => {
    expect(
      recognise(['name', 'phone', 'id', 'tz', 'a', 'b', 'c', 'd'], {
        phone: 'a',
        name: 'B',
        external_id: 'c',
        time_zone: ' d ',
      }),
    ).toMatchObject({ phone: 4, name: [5], external_id: 6, time_zone: 7 });
    expect(refusal(['phone'], { name: 'nom' })).toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining('"nom"'),
    });
  });

  it('each get a key, also without a name and with one that is taken', () => {
    expect(recognise(['note', 'phone', '', 'note']).attributes).toEqual([
      { index: 0, key: 'note' },
      { index: 2, key: 'column 3' },
      { index: 3, key: 'note (column 4)' },
    ]);
  });

  it('are bounded in number and length', () => {
    const wide = ['phone', ...Array.from({ length: 200 }, (_, n) => `c${n}`)];
    expect(refusal(wide)).toMatchObject({ code: 'import_broken', message: expect.stringContaining('200 columns') });
    expect(recognise(wide.slice(0, 200)).count).toBe(200);
    expect(refusal(['phone', 'x'.repeat(101)])).toMatchObject({
      code: 'import_broken',
      message: expect.stringContaining('100 characters'),
    });
  });
});
