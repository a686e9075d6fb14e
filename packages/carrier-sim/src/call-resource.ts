import { rfc2822 } from './clock.ts';
import type { CallStatus, LedgerEntry } from './types.ts';
import { isFinal, talkedSeconds } from './types.ts';

/** The word that the API has for a status: being dialled and not yet ringing is `queued` there, not `initiated`. */
export function apiStatus(status: CallStatus): CallStatus {
  return status === 'initiated' ? 'queued' : status;
}

export function callUri(entry: Pick<LedgerEntry, 'account' | 'sid'>): string {
  return `/2010-04-01/Accounts/${entry.account}/Calls/${entry.sid}`;
}

/** A call as `Calls/{Sid}.json` shows it: all values are strings or null, times have whole seconds. */
export function callResource(entry: LedgerEntry): Record<string, unknown> {
  const timeOf = (at_us: number | undefined) => (at_us === undefined ? null : rfc2822(at_us));
  const at = (status: CallStatus) => entry.statuses.find((one) => one.status === status)?.at_us;
  const last_us = entry.statuses.at(-1)?.at_us ?? entry.created_us;
  const ended = isFinal(entry.status);
  const uri = callUri(entry);
  const sub = (name: string) => `${uri}/${name}.json`;
  return {
    sid: entry.sid,
    date_created: rfc2822(entry.created_us),
    date_updated: rfc2822(last_us),
    parent_call_sid: null,
    account_sid: entry.account,
    to: entry.to,
    to_formatted: entry.to,
    from: entry.from,
    from_formatted: entry.from,
    phone_number_sid: '',
    status: apiStatus(entry.status),
    // A call that was never dialled has no start.
    start_time: timeOf(at('initiated')),
    end_time: ended ? rfc2822(last_us) : null,
    duration: ended ? String(talkedSeconds(entry)) : null,
    price: null,
    price_unit: 'USD',
    direction: 'outbound-api',
    answered_by: entry.answered_by,
    api_version: '2010-04-01',
    forwarded_from: null,
    group_sid: null,
    caller_name: null,
    queue_time: String(Math.round(((at('initiated') ?? last_us) - entry.created_us) / 1000)),
    trunk_sid: null,
    uri: `${uri}.json`,
    subresource_uris: { events: sub('Events'), recordings: sub('Recordings'), notifications: sub('Notifications') },
  };
}
