import { inHebrew } from './hebrew.ts';

/**
 * Every error that a person or a program can meet at the HTTP border or on the command line, in one table. `{name}`
 * stands for a field of the error's details.
 */
export interface ErrorRow {
  http: number;
  en: string;
  he: string;
}

export const ERRORS = {
  run_not_found: { http: 404, en: 'Run not found', he: 'הרצה לא נמצאה' },
  queue_not_found: { http: 404, en: 'No access to this queue', he: 'אין גישה לתור זה' },
  job_not_found: { http: 404, en: 'Job not found', he: 'המשימה לא נמצאה' },
  list_not_found: { http: 404, en: 'List not found', he: 'הרשימה לא נמצאה' },
  lead_not_found: { http: 404, en: 'Lead not found', he: 'הליד לא נמצא' },
  import_not_found: { http: 404, en: 'Import not found', he: 'הייבוא לא נמצא' },
  carrier_account_not_found: { http: 404, en: 'Carrier account not found', he: 'חשבון הספק לא נמצא' },
  key_not_found: { http: 404, en: 'Key not found', he: 'המפתח לא נמצא' },
  business_not_found: { http: 404, en: 'Business not found', he: 'העסק לא נמצא' },
  route_not_found: { http: 404, en: 'There is nothing at this address', he: 'אין דבר בכתובת זו' },

  unauthenticated: {
    http: 401,
    en: 'Give a valid API key as "Authorization: Bearer KEY"',
    he: 'יש לתת מפתח API תקף בכותרת "Authorization: Bearer KEY"',
  },
  forbidden: { http: 403, en: 'Your role ({role}) may not do this', he: 'אין הרשאה לפעולה זו לתפקיד שלך ({role})' },
  business_not_entered: {
    http: 403,
    en: "A system administrator's key reads no business's data; enter the business first, with a reason",
    he: 'מפתח של מנהל מערכת אינו קורא נתונים של עסק; יש להיכנס תחילה לעסק, עם סיבה',
  },
  signature_invalid: { http: 403, en: 'The signature is not valid', he: 'החתימה אינה תקפה' },

  invalid_request: { http: 422, en: 'The request is not valid: {problem}', he: 'הבקשה אינה תקינה: {problem}' },
  body_too_large: {
    http: 413,
    en: 'The body is larger than {limit_bytes} bytes',
    he: 'גוף הבקשה גדול מ-{limit_bytes} בתים',
  },
  unsupported_media_type: {
    http: 415,
    en: 'The content type is not supported; send {expected}',
    he: 'סוג התוכן אינו נתמך; יש לשלוח {expected}',
  },
  too_many_requests: {
    http: 429,
    en: 'More than {limit} requests a minute; try again in {retry_after_s} s',
    he: 'יותר מ-{limit} בקשות בדקה; אפשר לנסות שוב בעוד {retry_after_s} שניות',
  },
  too_many_streams: {
    http: 429,
    en: 'More than {limit} event streams are open; close one, or ask for the run itself from time to time',
    he: 'יותר מ-{limit} זרמי אירועים פתוחים; יש לסגור אחד, או לבקש את ההרצה עצמה מדי פעם',
  },
  idempotency_conflict: {
    http: 409,
    en: 'This Idempotency-Key was used with another request',
    he: 'מפתח ה-Idempotency-Key הזה שימש לבקשה אחרת',
  },
  last_owner_key: {
    http: 409,
    en: "This is the business's last valid owner key; create another before you revoke it",
    he: 'זהו מפתח הבעלים התקף האחרון של העסק; יש ליצור אחר לפני שמבטלים אותו',
  },
  phone_taken: {
    http: 409,
    en: 'Lead {lead_id} has this number already; a number belongs to one lead',
    he: 'לליד {lead_id} כבר יש המספר הזה; מספר שייך לליד אחד',
  },
  lead_erased: {
    http: 409,
    en: 'This lead was erased; import or create the number anew',
    he: 'הליד הזה נמחק; אפשר לייבא או ליצור את המספר מחדש',
  },
  lead_in_call: {
    http: 409,
    en: 'A call to this lead is under way (run {run_id}); cancel its job {job_id}, or try again once the call has ended',
    he: 'שיחה לליד זה מתקיימת כעת (הרצה {run_id}); אפשר לבטל את משימה {job_id}, או לנסות שוב לאחר סיום השיחה',
  },
  duplicate_lead: {
    http: 409,
    en: 'A lead stands twice in this run; each lead may be in a run once',
    he: 'ליד מופיע פעמיים בהרצה; כל ליד יכול להופיע בהרצה פעם אחת',
  },
  list_empty: { http: 422, en: 'The list has no leads to call', he: 'אין ברשימה לידים להתקשר אליהם' },
  follow_up_empty: {
    http: 422,
    en: 'No lead of run {run_id} ended in one of these ways: {outcomes}',
    he: 'אף ליד בהרצה {run_id} לא הסתיים באחת מהדרכים: {outcomes}',
  },
  no_carrier_account: {
    http: 422,
    en: 'The business has no carrier account; create one first',
    he: 'לעסק אין חשבון ספק; יש ליצור אחד תחילה',
  },
  carrier_account_ambiguous: {
    http: 422,
    en: 'The business has several carrier accounts; name one as carrier_account_id',
    he: 'לעסק יש כמה חשבונות ספק; יש לבחור אחד ב-carrier_account_id',
  },
  from_number_taken: {
    http: 409,
    en: 'Carrier account {carrier_account_id} calls from {from_number} already; use that account, or give another number',
    he: 'חשבון ספק {carrier_account_id} כבר מתקשר מהמספר {from_number}; יש להשתמש בחשבון ההוא או לתת מספר אחר',
  },
  unknown_driver: {
    http: 422,
    en: 'No carrier driver is called "{driver}"; known: {known}',
    he: 'אין מנהל ספק בשם "{driver}"; מוכרים: {known}',
  },
  run_state_conflict: {
    http: 409,
    en: 'A run that is {status} can not be {action}',
    he: 'לא ניתן {action} הרצה במצב "{status}"',
  },
  restore_unacknowledged: {
    http: 409,
    en: 'The database may have forgotten calls ({reason}); a run goes on once "carillon restore acknowledge" has been run',
    he: 'ייתכן שמסד הנתונים שכח שיחות ({reason}); הרצה תימשך לאחר הפעלת "carillon restore acknowledge"',
  },
  job_state_conflict: {
    http: 409,
    en: 'A job that is {status} can not be {action}',
    he: 'לא ניתן {action} משימה במצב "{status}"',
  },
  phone_invalid: {
    http: 422,
    // Without the number: an error may be kept where a lead's data can't be erased.
    en: 'This is no phone number that can be called ({reason})',
    he: 'זה אינו מספר טלפון שניתן לחייג אליו ({reason})',
  },
  import_file_empty: { http: 422, en: 'The file is empty', he: 'הקובץ ריק' },
  import_no_lines: {
    http: 422,
    en: 'The file has a header and no line below it',
    he: 'בקובץ יש שורת כותרת ואין אף שורה מתחתיה',
  },
  import_not_text: {
    http: 422,
    en: 'The file is not UTF-8 text throughout (byte {byte}); save it as CSV UTF-8 and send it again, or name its encoding, such as encoding=windows-1255',
    he: 'הקובץ אינו כולו טקסט UTF-8 (בית {byte}); יש לשמור אותו כ-CSV UTF-8 ולשלוח שוב, או לציין את הקידוד, למשל encoding=windows-1255',
  },
  import_encoding_unknown: {
    http: 422,
    en: 'The encoding of the text can not be recognised; save the file as CSV UTF-8, or name it with encoding=ENCODING ({known})',
    he: 'לא ניתן לזהות את קידוד הטקסט; יש לשמור את הקובץ כ-CSV UTF-8, או לציין אותו כך: encoding=ENCODING ({known})',
  },
  import_format_unsupported: {
    http: 422,
    en: 'The file is {found}, which can not be imported; save it as XLSX or as CSV UTF-8 and send it again',
    he: 'הקובץ הוא {found} ולא ניתן לייבא אותו; יש לשמור אותו כ-XLSX או כ-CSV UTF-8 ולשלוח שוב',
  },
  import_damaged: {
    http: 422,
    en: 'The spreadsheet can not be read: {problem}; open it, save it again and send it again',
    he: 'לא ניתן לקרוא את הגיליון: {problem}; יש לפתוח אותו, לשמור שוב ולשלוח שוב',
  },
  import_unpacks_too_large: {
    http: 413,
    en: 'The spreadsheet unpacks to {bytes} bytes, more than {limit_bytes} or than {limit_ratio} times its size; divide it, or save it as CSV UTF-8',
    he: 'הגיליון נפרס ל-{bytes} בתים, יותר מ-{limit_bytes} או מפי {limit_ratio} מגודלו; יש לחלק אותו או לשמור אותו כ-CSV UTF-8',
  },
  import_sheet_not_found: {
    http: 422,
    en: 'There is no sheet "{wanted}" among: {sheets}',
    he: 'אין גיליון "{wanted}" בין: {sheets}',
  },
  import_phone_column_ambiguous: {
    http: 422,
    en: 'Several columns may hold the phone number: {columns}. Name one with phone=COLUMN',
    he: 'כמה עמודות עשויות להכיל את מספר הטלפון: {columns}. אפשר לציין אחת כך: phone=COLUMN',
  },
  import_no_space: {
    http: 507,
    en: 'The server has no room for the file at the moment; nothing was imported. Make room in its temporary directory and send it again',
    he: 'אין כרגע בשרת מקום לקובץ; דבר לא יובא. יש לפנות מקום בתיקייה הזמנית שלו ולשלוח שוב',
  },
  database_full: {
    http: 507,
    en: 'The disk of the database is full; make room and try again. A list that was being imported is as it was',
    he: 'הדיסק של בסיס הנתונים מלא; יש לפנות מקום ולנסות שוב. רשימה שיובאה בינתיים נשארה כפי שהייתה',
  },
  import_no_phone_column: {
    http: 422,
    en: 'No phone column found among: {columns}. Name it with phone=COLUMN',
    he: 'לא נמצאה עמודת טלפון בין: {columns}. אפשר לציין אותה כך: phone=COLUMN',
  },
  import_broken: {
    http: 422,
    en: 'The file can not be read at line {line}: {problem}',
    he: 'לא ניתן לקרוא את הקובץ בשורה {line}: {problem}',
  },
  import_in_progress: {
    http: 409,
    en: 'Another import into this list is under way',
    he: 'ייבוא אחר לרשימה זו נמצא בעיצומו',
  },
  database_unavailable: {
    http: 503,
    en: 'The database can not be reached at the moment; try again shortly',
    he: 'אין כרגע גישה לבסיס הנתונים; אפשר לנסות שוב בעוד רגע',
  },
  outcome_unknown: {
    http: 503,
    en: 'The connection to the database broke while this was being saved, so nobody can say whether it was; look before you ask for it again',
    he: 'החיבור לבסיס הנתונים נותק בזמן השמירה ולא ידוע אם נשמר; יש לבדוק לפני ששולחים שוב',
  },
  internal: {
    http: 500,
    en: 'Something went wrong on our side; give the request id to support',
    he: 'משהו השתבש אצלנו; אפשר לפנות לתמיכה עם מזהה הבקשה',
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;
export type Language = 'en' | 'he';
export type ErrorDetails = Record<string, unknown>;

/** An expected failure with a code from the table; anything else that is thrown is a fault of ours. */
export class CarillonError extends Error {
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(errorSentence(code, 'en', details), options);
    this.name = 'CarillonError';
    this.code = code;
    this.details = details;
  }
}

/** The sentence for a code, its `{placeholders}` filled from the details. */
export function errorSentence(code: ErrorCode, language: Language, details: ErrorDetails = {}): string {
  const say = (name: string) => (language === 'he' ? inHebrew(name, details[name]) : String(details[name]));
  return ERRORS[code][language].replace(/\{(\w+)\}/g, (_, name: string) =>
    details[name] === undefined || details[name] === null ? name : say(name),
  );
}
