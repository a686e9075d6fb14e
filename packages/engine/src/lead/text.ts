/** Characters without width that come along when text is copied: soft hyphens, joiners, direction marks, BOMs. */
const INVISIBLE = /[\u00AD\u061C\u180E\u200B-\u200F\u202A-\u202E\u2060-\u2069\uFEFF]/g;
/** Of these, the ones that no text needs; joiners are part of some scripts and of emoji. */
const MARKS = /[\u00AD\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069\uFEFF]/g;
/** Spaces that a line does not break at, or of a width of their own. */
const SPACES = /[\u00A0\u2000-\u200A\u202F\u205F\u3000]/g;
/** What no database takes, and nobody can see. Tabs and line ends stay. */
// oxlint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F]/g;

/** What nothing is to be done about, as nearly every value is: letters of most scripts, digits, signs, single spaces. */
const CLEAN = /^(?![='\s])[ -~\u00A1-\u00AC\u00AE-\u061B\u061D-\u167F]*$/;

/** Without invisible characters; full-width forms and unusual spaces made plain; trimmed. For numbers and headers. */
export function plain(text: string): string {
  return text.replace(INVISIBLE, '').normalize('NFKC').trim();
}

/**
 * A value as it is kept: without direction marks and control characters, with plain spaces, without what spreadsheets
 * put around a text to keep it one (`="0123"`, or an apostrophe before what looks like a formula); trimmed.
 */
export function cellText(text: string): string {
  if (CLEAN.test(text) && !text.endsWith(' ')) return text;
  return text
    .replace(MARKS, '')
    .replace(SPACES, ' ')
    .replace(CONTROLS, '')
    .toWellFormed()
    .trim()
    .replace(/^="(.*)"$/s, '$1')
    .replace(/^'(?=[=+\-@])/, '')
    .trim();
}

/** The first `chars` UTF-16 units, never half of a character. */
export function cut(text: string, chars: number): string {
  return text.length <= chars ? text : text.slice(0, chars).replace(/[\uD800-\uDBFF]$/, '');
}

/** A record's text as it is kept for a person: what the database can hold of it, and no more than `chars`. */
export function original(text: string, chars: number): string {
  return cut(text, chars).replaceAll('\0', '\uFFFD').toWellFormed();
}
