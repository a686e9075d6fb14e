import type { AnswerScript } from '@carillon/contract';

/** TwiML: what a call does once it is answered. */

const CONTENT_TYPE = 'text/xml; charset=utf-8';

export function say({ say, language }: AnswerScript): { content_type: string; body: string } {
  return document(`<Say language="${escape(language)}">${escape(say)}</Say>`);
}

export function hangUpNow(): { content_type: string; body: string } {
  return document('<Hangup/>');
}

function document(verbs: string) {
  return {
    content_type: CONTENT_TYPE,
    body: `<?xml version="1.0" encoding="UTF-8"?><Response>${verbs}</Response>`,
  };
}

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' };

/** Characters that XML 1.0 has no place for, escaped or not, are left out: one of them would void the whole answer. */
function escape(text: string): string {
  return text
    .toWellFormed()
    .replace(/[^\t\n\r\u0020-\uFFFD\u{10000}-\u{10FFFF}]/gu, '')
    .replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}
