import type { Language } from '@carillon/contract';
import type { FastifyRequest } from 'fastify';

/** The language in which a request is answered, as far as answers speak one. */
export function languageOf(request: FastifyRequest): Language {
  return chooseLanguage(request.headers['accept-language'], request.principal?.language);
}

/**
 * The language of an error's sentence: the best of Accept-Language that we speak, else the business's, else English.
 * `iw` is what Hebrew was called once, and some systems still say.
 */
export function chooseLanguage(accept: string | undefined, business: Language | undefined): Language {
  const spoken = (accept ?? '')
    .split(',')
    .map(readRange)
    .filter((range) => range !== null)
    .sort((a, b) => b.quality - a.quality);
  return spoken[0]?.language ?? business ?? 'en';
}

function readRange(text: string): { language: Language; quality: number } | null {
  const [tag = '', ...parameters] = text.trim().toLowerCase().split(';');
  const [primary] = tag.trim().split('-');
  const language = primary === 'en' ? 'en' : primary === 'he' || primary === 'iw' ? 'he' : null;
  const given = /^\s*q=([\d.]+)\s*$/.exec(parameters.join(';'))?.[1];
  const quality = given === undefined ? 1 : Number(given);
  return language && quality > 0 ? { language, quality } : null;
}
