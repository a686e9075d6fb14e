import type { Attempt, Language } from '@carillon/contract';
import type { ExportLine } from './export-line.ts';

interface Column {
  /** As the API calls it. */
  en: string;
  he: string;
  value(line: ExportLine, attempt: Attempt | null): string | number | null;
}

/** The columns before the attributes, in their order. Programs rely on them: new ones go to the end. */
export const COLUMNS: readonly Column[] = [
  { en: 'seq', he: 'מספר', value: (line) => line.seq },
  { en: 'lead_id', he: 'מזהה ליד', value: (line) => line.lead_id },
  { en: 'phone', he: 'טלפון', value: (line) => line.phone },
  { en: 'name', he: 'שם', value: (line) => line.name },
  { en: 'external_id', he: 'מזהה חיצוני', value: (line) => line.external_id },
  { en: 'time_zone', he: 'אזור זמן', value: (line) => line.time_zone },
  { en: 'status', he: 'מצב', value: (line) => line.status },
  { en: 'reason', he: 'סיבה', value: (line) => line.reason },
  { en: 'due_at', he: 'מועד הבא', value: (line) => line.due_at },
  { en: 'attempts', he: 'ניסיונות', value: (line) => line.attempts },
  { en: 'last_outcome', he: 'תוצאה אחרונה', value: (line) => line.last_outcome },
  { en: 'attempt_no', he: 'ניסיון', value: (_, attempt) => attempt?.attempt_no ?? null },
  { en: 'attempt_state', he: 'מצב הניסיון', value: (_, attempt) => attempt?.state ?? null },
  { en: 'outcome', he: 'תוצאה', value: (_, attempt) => attempt?.outcome ?? null },
  { en: 'cause', he: 'גורם', value: (_, attempt) => attempt?.cause ?? null },
  { en: 'from', he: 'ממספר', value: (_, attempt) => attempt?.from ?? null },
  { en: 'call_id', he: 'מזהה שיחה', value: (_, attempt) => attempt?.call_id ?? null },
  { en: 'intent_at', he: 'מועד הניסיון', value: (_, attempt) => attempt?.intent_at ?? null },
  { en: 'placed_at', he: 'מועד החיוג', value: (_, attempt) => attempt?.placed_at ?? null },
  { en: 'answered_at', he: 'מועד המענה', value: (_, attempt) => attempt?.answered_at ?? null },
  { en: 'ended_at', he: 'מועד הסיום', value: (_, attempt) => attempt?.ended_at ?? null },
  { en: 'duration_s', he: 'משך בשניות', value: (_, attempt) => attempt?.duration_s ?? null },
];

/** The last column: attributes beyond the columns that there may be, or of leads that changed meanwhile, as JSON. */
export const ATTRIBUTES_BEHIND = { en: 'other_attributes', he: 'מאפיינים נוספים' } as const;

/** The header line's values. An attribute that is called like a column says what it is. */
export function headerOf(language: Language, keys: readonly string[]): string[] {
  const own = [...COLUMNS, ATTRIBUTES_BEHIND];
  const taken = new Set(own.flatMap(({ en, he }) => [en, he]));
  const prefix = language === 'he' ? 'מאפיין: ' : 'attribute: ';
  return [
    ...COLUMNS.map((column) => column[language]),
    ...keys.map((key) => (taken.has(key) ? prefix + key : key)),
    ATTRIBUTES_BEHIND[language],
  ];
}
