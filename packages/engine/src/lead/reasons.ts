/** Why something is no number, or a line no new member: code and text. */
export interface Reason {
  en: string;
  he: string;
}

/** Why a text is no number that can be called. */
export const PHONE_REASONS = {
  empty: { en: 'there is no number', he: 'אין מספר' },
  letters: { en: 'it has letters in it', he: 'יש בו אותיות' },
  signs: { en: 'it has signs in it that belong in no phone number', he: 'יש בו סימנים שאינם שייכים למספר טלפון' },
  date: {
    en: 'it is a date; the spreadsheet may have made one of a number: format the column as text',
    he: 'זהו תאריך; ייתכן שהגיליון הפך מספר לתאריך: יש לעצב את העמודה כטקסט',
  },
  scientific_notation: {
    en: 'a spreadsheet has rounded the number; format the column as text and export it again',
    he: 'הגיליון עיגל את המספר; יש לעצב את העמודה כטקסט ולייצא שוב',
  },
  zeros_lost: {
    en: 'the spreadsheet keeps it as a number, and zeros in front may be lost; format the column as text',
    he: 'הגיליון שומר אותו כמספר, וייתכן שאפסים בתחילתו אבדו; יש לעצב את העמודה כטקסט',
  },
  several_numbers: { en: 'there is more than one number; keep one', he: 'יש יותר ממספר אחד; יש להשאיר אחד' },
  unknown_country: {
    en: 'it begins with a country code that does not exist',
    he: 'הוא מתחיל בקידומת מדינה שאינה קיימת',
  },
  ambiguous_prefix: {
    en: 'it begins with 00, which can be read in two ways in its country; write it with + and the country code',
    he: 'הוא מתחיל ב-00, שאפשר לקרוא במדינה שלו בשתי דרכים; יש לכתוב אותו עם + וקידומת המדינה',
  },
  too_short: { en: 'it has too few digits', he: 'יש בו פחות מדי ספרות' },
  too_long: { en: 'it has too many digits', he: 'יש בו יותר מדי ספרות' },
  impossible: {
    en: 'its country has no numbers of this length with this beginning',
    he: 'אין במדינה שלו מספרים באורך זה עם התחלה כזו',
  },
} as const satisfies Record<string, Reason>;
export type PhoneReason = keyof typeof PHONE_REASONS;

/** Why a line of a file gave no new member of the list, or, of an accepted one, what a person should know. */
export const LINE_REASONS = {
  ...PHONE_REASONS,
  too_many_columns: {
    en: 'the line has more values than the header has columns',
    he: 'בשורה יש יותר ערכים מעמודות הכותרת',
  },
  no_json_object: { en: 'the line is no JSON object', he: 'השורה אינה אובייקט JSON' },
  name_too_long: { en: 'the name is too long', he: 'השם ארוך מדי' },
  external_id_too_long: { en: 'the external id is too long', he: 'המזהה החיצוני ארוך מדי' },
  attribute_too_long: { en: 'a value is too long', he: 'אחד הערכים ארוך מדי' },
  unknown_time_zone: {
    en: 'the time zone is none; give one such as Asia/Jerusalem, or leave it empty',
    he: 'אזור הזמן אינו מוכר; יש לתת אחד כמו Asia/Jerusalem, או להשאיר ריק',
  },
  unknown_consent_time: {
    en: 'the time of the consent is none, or lies in the future; give one such as 2026-01-31 14:00, or leave it empty',
    he: 'מועד ההסכמה אינו מוכר או עתידי; יש לתת אחד כמו 2026-01-31 14:00, או להשאיר ריק',
  },
  consent_too_long: { en: 'the source or the text of the consent is too long', he: 'מקור ההסכמה או נוסחה ארוך מדי' },
  repeated_in_file: { en: 'an earlier line of the file has the same number', he: 'בשורה קודמת בקובץ מופיע אותו מספר' },
  already_in_list: { en: 'the list has this number already', he: 'המספר כבר נמצא ברשימה' },
  external_id_of_another: {
    en: 'another lead has the same external id',
    he: 'לליד אחר יש אותו מזהה חיצוני',
  },
  external_id_replaced: {
    en: 'the lead had another external id, which this one replaced',
    he: 'לליד היה מזהה חיצוני אחר, וזה החליף אותו',
  },
} as const satisfies Record<string, Reason>;
export type LineReason = keyof typeof LINE_REASONS;
