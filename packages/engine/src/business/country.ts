import { CarillonError } from '@carillon/contract';
import { type CountryCode, isSupportedCountry } from 'libphonenumber-js/min';

/** Reads a country: ISO 3166-1 alpha-2 in either case, one that has phone numbers. Throws `invalid_request`. */
export function parseCountry(text: string): CountryCode {
  const country = text.trim().toUpperCase();
  if (!isSupportedCountry(country))
    throw new CarillonError('invalid_request', { problem: `"${text}" is no country; give two letters such as IL` });
  return country;
}
