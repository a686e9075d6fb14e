import type { CarrierDriver } from '@carillon/contract';
import { EXPIRED_EFFECT_DELAY_MS } from '../limits.ts';
import { readStatusForm } from './call.ts';
import { type AskLimits, fetchCall, find, hangUp, list } from './calls.ts';
import { place, type PlaceLimits } from './place.ts';
import { isSigned } from './signature.ts';
import { hangUpNow, say } from './twiml.ts';

export type TwilioOptions = PlaceLimits & AskLimits & { effect_delay_ms: number | null; listing_delay_ms: number };

/** The driver for all that speak Twilio's REST API 2010-04-01; the account's base URL says where. */
export function createTwilioDriver(options: TwilioOptions): CarrierDriver {
  return {
    name: 'twilio',
    capabilities: ({ client_validation }) => ({
      effect_delay_ms: client_validation ? EXPIRED_EFFECT_DELAY_MS : options.effect_delay_ms,
      listing_delay_ms: options.listing_delay_ms,
      expiring_create: client_validation !== undefined,
      hang_up_while_queued: true,
      created_at_resolution_ms: 1000,
    }),
    place: (request, gate) => place(request, gate, options),
    find: (credentials, wanted) => find(credentials, wanted, options),
    list: (credentials, wanted) => list(credentials, wanted, options),
    fetchCall: (credentials, call_id) => fetchCall(credentials, call_id, options),
    hangUp: (credentials, call_id) => hangUp(credentials, call_id, options),
    verify: (credentials, request) => isSigned(request, credentials.auth_token),
    readEvent: (request) => readStatusForm(request.form),
    answer: say,
    hangUpAnswer: hangUpNow,
  };
}
