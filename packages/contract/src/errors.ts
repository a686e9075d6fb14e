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
  route_not_found: { http: 404, en: 'There is nothing at this address', he: 'אין דבר בכתובת זו' },

  unauthenticated: {
    http: 401,
    en: 'Give a valid API key as "Authorization: Bearer KEY"',
    he: 'יש לתת מפתח API תקף בכותרת "Authorization: Bearer KEY"',
  },
  forbidden: { http: 403, en: 'Your role ({role}) may not do this', he: 'אין הרשאה לפעולה זו לתפקיד שלך ({role})' },
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
  duplicate_lead: {
    http: 409,
    en: 'A lead stands twice in this run; each lead may be in a run once',
    he: 'ליד מופיע פעמיים בהרצה; כל ליד יכול להופיע בהרצה פעם אחת',
  },
  list_empty: { http: 422, en: 'The list has no leads to call', he: 'אין ברשימה לידים להתקשר אליהם' },
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
    he: 'לא ניתן לבצע {action} בהרצה במצב {status}',
  },
  job_state_conflict: {
    http: 409,
    en: 'A job that is {status} can not be {action}',
    he: 'לא ניתן לבצע {action} במשימה במצב {status}',
  },
  phone_invalid: {
    http: 422,
    en: '"{phone}" is no phone number that can be called ({reason})',
    he: '"{phone}" אינו מספר טלפון שניתן לחייג אליו ({reason})',
  },
  import_file_empty: { http: 422, en: 'The file is empty', he: 'הקובץ ריק' },
  import_not_text: {
    http: 422,
    en: 'The file is not UTF-8 text (byte {byte}); save it as CSV UTF-8 and send it again',
    he: 'הקובץ אינו טקסט UTF-8 (בית {byte}); יש לשמור אותו כ-CSV UTF-8 ולשלוח שוב',
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
  return ERRORS[code][language].replace(/\{(\w+)\}/g, (_, name: string) => String(details[name] ?? name));
}
