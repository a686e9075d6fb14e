import { randomBytes } from 'node:crypto';

/** Something that must not come out anywhere, and every form in which it would be the same. */
export interface Planted {
  name: string;
  forms: string[];
}

const base64 = (text: string | Buffer) => Buffer.from(text as string).toString('base64');

/** A text that nobody could mistake for anything else. */
export const unlikely = (what: string): string => `planted-${what}-${randomBytes(9).toString('hex')}`;

/** As it stands, in URLs, in JSON, and in the encodings in which secrets travel. */
export function plantText(name: string, text: string): Planted {
  const json = JSON.stringify(text).slice(1, -1);
  const forms = [text, encodeURIComponent(text), encodeURIComponent(text).replaceAll('%20', '+'), json];
  // Without the end, which depends on what comes behind it.
  const encoded = base64(text).replace(/=+$/, '').slice(0, -2);
  const hex = Buffer.from(text).toString('hex');
  return { name, forms: [...new Set([...forms, encoded, encoded.replaceAll('+', '-').replaceAll('/', '_'), hex])] };
}

/** Bytes that are kept as base64: also as hex and in the alphabet for URLs. */
export function plantBytes(name: string, bytes: Buffer): Planted {
  return { name, forms: [base64(bytes), bytes.toString('base64url'), bytes.toString('hex')] };
}

/** HTTP basic authentication, whose encoding hides both halves. */
export function plantBasic(name: string, user: string, password: string): Planted {
  return { name, forms: [base64(`${user}:${password}`), base64(`${user}:${password}`).replace(/=+$/, '')] };
}

/** By the digits that all of its forms have in common: national, international, encoded in a URL. */
export function plantPhone(name: string, e164: string): Planted {
  return { name, forms: [e164.replace(/^\+972/, '')] };
}

/** The names of what is found in a text, with some of the text around it. */
export function leaksIn(where: string, text: string, planted: readonly Planted[]): string[] {
  // Numbers are also written with spaces and dashes between their digits.
  const joined = text.replace(/(\d)[ \-().]+(?=\d)/g, '$1');
  return planted.flatMap(({ name, forms }) => {
    const form = forms.find((one) => text.includes(one) || joined.includes(one));
    if (form === undefined) return [];
    const body = text.includes(form) ? text : joined;
    const at = body.indexOf(form);
    return [
      `${where}: ${name}: …${body.slice(Math.max(0, at - 120), at)}█${body.slice(at + form.length, at + form.length + 40)}…`,
    ];
  });
}
