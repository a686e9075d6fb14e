import type { CountryCode } from 'libphonenumber-js/min';
import { isTimeZone } from '../business/time-zone.ts';
import type { Columns } from './columns.ts';
import type { ImportLimits } from './limits.ts';
import { PHONE_REASONS, readPhone } from './phone.ts';

/** Why a line gave no new member of the list: code and English text. */
export const LINE_REASONS = {
  ...PHONE_REASONS,
  too_many_columns: 'the line has more values than the header has columns',
  name_too_long: 'the name is too long',
  external_id_too_long: 'the external id is too long',
  attribute_too_long: 'a value is too long',
  unknown_time_zone: 'the time zone is none; give one such as Asia/Jerusalem, or leave it empty',
  repeated_in_file: 'an earlier line of the file has the same number',
  already_in_list: 'the list has this number already',
} as const;
export type LineReason = keyof typeof LINE_REASONS;

/** A lead as a line gives it. */
export interface NewLead {
  /** E.164. */
  phone: string;
  name: string | null;
  external_id: string | null;
  time_zone: string | null;
  attributes: Record<string, string>;
}

export type LineVerdict = { lead: NewLead } | { reason: LineReason };

/** What a line says, by its columns. Missing values are empty; surplus ones are refused unless they are empty too. */
export function readLine(
  fields: readonly string[],
  columns: Columns,
  country: CountryCode,
  limits: ImportLimits,
): LineVerdict {
  if (fields.slice(columns.count).some((value) => value.trim() !== '')) return { reason: 'too_many_columns' };
  const phone = readPhone(fields[columns.phone] ?? '', country);
  if (!phone.ok) return { reason: phone.reason };
  const value = (index: number | null) => (index === null ? '' : (fields[index] ?? '').trim());
  const lead = {
    phone: phone.phone,
    name: columns.name.map(value).filter(Boolean).join(' ') || null,
    external_id: value(columns.external_id) || null,
    time_zone: value(columns.time_zone) || null,
    attributes: Object.fromEntries(
      columns.attributes.map(({ index, key }) => [key, value(index)] as const).filter(([, text]) => text !== ''),
    ),
  };
  const reason = outOfBounds(lead, limits);
  return reason ? { reason } : { lead };
}

function outOfBounds(lead: NewLead, limits: ImportLimits): LineReason | null {
  if ((lead.name?.length ?? 0) > limits.lead_name_chars) return 'name_too_long';
  if ((lead.external_id?.length ?? 0) > limits.lead_external_id_chars) return 'external_id_too_long';
  if (lead.time_zone !== null && !isTimeZone(lead.time_zone)) return 'unknown_time_zone';
  const long = Object.values(lead.attributes).some((text) => text.length > limits.lead_attribute_chars);
  return long ? 'attribute_too_long' : null;
}
