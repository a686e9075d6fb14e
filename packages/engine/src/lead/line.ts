import type { CountryCode } from 'libphonenumber-js/min';
import { isTimeZone } from '../business/time-zone.ts';
import type { Columns } from './columns.ts';
import { type Consent, readMoment } from './consent.ts';
import type { FileRow } from './file/row.ts';
import type { ImportLimits } from './limits.ts';
import { type PhoneResult, readPhone } from './phone.ts';
import { timeZoneOfPhone } from './phone-zone.ts';
import type { LineReason } from './reasons.ts';
import { cellText } from './text.ts';

/** A lead as a line gives it. */
export interface NewLead {
  /** E.164. */
  phone: string;
  name: string | null;
  external_id: string | null;
  /** As the line gives it. */
  time_zone: string | null;
  /** By the number, for a lead that has no other. */
  phone_time_zone: string | null;
  attributes: Record<string, string>;
  consent: Consent | null;
}

export type LineVerdict = { lead: NewLead } | { reason: LineReason };

/** What a line is read with. */
export interface LineContext {
  /** Where numbers without a country code belong. */
  country: CountryCode;
  /** The business's, for times without a zone. */
  time_zone: string;
  /** ISO 8601; later consents are mistakes. */
  now: string;
  limits: ImportLimits;
}

/** What a line says, by its columns. Missing values are empty; surplus ones are refused unless they are empty too. */
export function readLine(row: FileRow, columns: Columns, context: LineContext): LineVerdict {
  const { fields } = row;
  if (row.reason !== undefined) return { reason: row.reason };
  if (fields.slice(columns.count).some((value) => cellText(value) !== '')) return { reason: 'too_many_columns' };
  const phone = readNumber(row, columns, context.country);
  if (!phone.ok) return { reason: phone.reason };
  const value = (index: number | null) => (index === null ? '' : cellText(fields[index] ?? ''));
  const extension = value(columns.extension) || phone.extension;
  const consent = readConsent(value, columns, context);
  if (consent === 'unknown_consent_time') return { reason: consent };
  const lead = {
    phone: phone.phone,
    name: columns.name.map(value).filter(Boolean).join(' ') || null,
    external_id: value(columns.external_id) || null,
    time_zone: value(columns.time_zone) || null,
    phone_time_zone: timeZoneOfPhone(phone.phone),
    attributes: Object.fromEntries([
      ...(extension ? [['extension', extension] as const] : []),
      ...columns.attributes.map(({ index, key }) => [key, value(index)] as const).filter(([, text]) => text !== ''),
    ]),
    consent,
  };
  const reason = outOfBounds(lead, context.limits);
  return reason ? { reason } : { lead };
}

/** A number of which the spreadsheet may have dropped the zeros is no number for that reason, and not for its length. */
function readNumber({ fields, numbers }: FileRow, columns: Columns, country: CountryCode): PhoneResult {
  const read = readPhone(fields[columns.phone] ?? '', country);
  if (read.ok || !numbers?.has(columns.phone)) return read;
  return read.reason === 'too_short' || read.reason === 'impossible' ? { ok: false, reason: 'zeros_lost' } : read;
}

function readConsent(
  value: (index: number | null) => string,
  columns: Columns,
  { country, time_zone, now }: LineContext,
): Consent | null | 'unknown_consent_time' {
  const moment = value(columns.consent_at);
  const given_at = moment === '' ? null : readMoment(moment, country, time_zone);
  if (moment !== '' && (given_at === null || Date.parse(given_at) > Date.parse(now))) return 'unknown_consent_time';
  const source = value(columns.consent_source) || null;
  const text = value(columns.consent_text) || null;
  return source === null && given_at === null && text === null ? null : { source, given_at, text };
}

function outOfBounds(lead: NewLead, limits: ImportLimits): LineReason | null {
  if ((lead.name?.length ?? 0) > limits.lead_name_chars) return 'name_too_long';
  if ((lead.external_id?.length ?? 0) > limits.lead_external_id_chars) return 'external_id_too_long';
  if (lead.time_zone !== null && !isTimeZone(lead.time_zone)) return 'unknown_time_zone';
  const consent = [lead.consent?.source, lead.consent?.text];
  if (consent.some((text) => (text?.length ?? 0) > limits.lead_consent_chars)) return 'consent_too_long';
  const long = Object.values(lead.attributes).some((text) => text.length > limits.lead_attribute_chars);
  return long ? 'attribute_too_long' : null;
}
