/** Characters without width that come along when text is copied: soft hyphens, joiners, direction marks, BOMs. */
const INVISIBLE = /[\u00AD\u061C\u180E\u200B-\u200F\u202A-\u202E\u2060-\u2069\uFEFF]/g;

/** Without invisible characters; full-width forms and unusual spaces made plain; trimmed. For numbers and headers. */
export function plain(text: string): string {
  return text.replace(INVISIBLE, '').normalize('NFKC').trim();
}

/** The first `chars` UTF-16 units, never half of a character. */
export function cut(text: string, chars: number): string {
  return text.length <= chars ? text : text.slice(0, chars).replace(/[\uD800-\uDBFF]$/, '');
}
