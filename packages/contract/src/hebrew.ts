/** The words that stand inside Hebrew sentences: what errors.ts fills its `{places}` with, and what is wrong with input. */

/** By the name of the place, then by the word that programs know. A run and a job are both feminine. */
const WORDS: Record<string, Record<string, string>> = {
  status: {
    draft: 'טיוטה',
    pending: 'ממתינה לתחילה',
    running: 'פעילה',
    paused: 'מושהית',
    cancelling: 'בביטול',
    cancelled: 'בוטלה',
    completed: 'הושלמה',
    failed: 'נכשלה',
    queued: 'בתור',
    waiting: 'ממתינה',
    in_progress: 'בביצוע',
    skipped: 'דולגה',
    needs_review: 'דורשת בדיקה',
  },
  action: { paused: 'להשהות', resumed: 'להמשיך', stopped: 'לעצור', cancelled: 'לבטל', resolved: 'ליישב' },
  role: { agent: 'נציג', admin: 'מנהל', owner: 'בעלים', system_admin: 'מנהל מערכת' },
};

/** What is wrong with a request, where the words are ours; the others are the schema library's, in its own Hebrew. */
export const PROBLEMS_HE: Record<string, string> = {
  'a whole number': 'מספר שלם',
  'a number such as 12': 'מספר כגון 12',
  'a job id such as 12-3': 'מזהה משימה כגון 12-3',
  'an id such as 12, or 12-3 for a job': 'מזהה כגון 12, ולמשימה 12-3',
  'such as run': 'כגון run',
  'two letters such as IL': 'שתי אותיות כגון IL',
  'a BCP 47 language such as he-IL': 'שפה לפי BCP 47 כגון he-IL',
  'an E.164 number such as +97231234567': 'מספר E.164 כגון ‎+97231234567',
  'the `next` of an earlier page': 'ערך next של עמוד קודם',
  'Give one of list_id, lead_ids and from_run.': 'יש לתת אחד מאלה: list_id, lead_ids, from_run',
  'Give one of search, phone and external_id.': 'יש לתת אחד מאלה: search, phone, external_id',
  'Name at least one field to change.': 'יש לציין לפחות שדה אחד לשינוי',
  'ends_at must be after starts_at.': 'ends_at חייב להיות אחרי starts_at',
  'subject_type and subject_id go together': 'subject_type ו-subject_id באים יחד',
  'run_id and subject_type exclude each other': 'run_id ו-subject_type אינם באים יחד',
  'it has no body; send a JSON object': 'אין לה גוף; יש לשלוח אובייקט JSON',
  'the form has no file in it': 'אין קובץ בטופס',
  'expires_at: a time that is still to come': 'expires_at: מועד שעוד לא עבר',
  'reason: no phone number may stand in it; name a ticket': 'reason: אסור שיהיה בו מספר טלפון; אפשר לציין מספר פנייה',
  'the label of a key has at most 200 characters': 'לתווית של מפתח יש לכל היותר 200 תווים',
  'the name of a business has 1 to 200 characters': 'לשם של עסק יש 1 עד 200 תווים',
  'an unencrypted private key in PEM form': 'מפתח פרטי לא מוצפן בתבנית PEM',
  'client_validation.private_key_pem is no unencrypted RSA key of at least 2048 bits':
    'client_validation.private_key_pem אינו מפתח RSA לא מוצפן של 2048 סיביות לפחות',
  'the name of a list has 1 to 200 characters': 'לשם של רשימה יש 1 עד 200 תווים',
  'a quote (") is opened there and not closed properly': 'נפתחות שם מירכאות (") שאינן נסגרות כראוי',
  'a text has a NUL or half a character in it': 'באחד הטקסטים יש NUL או חצי תו',
};

/** A detail as it stands in a Hebrew sentence; what has no Hebrew stays as it is. */
export function inHebrew(place: string, value: unknown): string {
  const text = String(value);
  if (place === 'problem') return PROBLEMS_HE[text] ?? text;
  return WORDS[place]?.[text] ?? text;
}
