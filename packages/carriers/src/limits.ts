/** Every bound of the carrier drivers, in one place. The unit is the last word of each name. */

/** The default reach of each option of `createCarrierDrivers`; what they mean stands there. */
export const CONNECT_TIMEOUT_MS = 10_000;
export const DIAL_RESPONSE_TIMEOUT_MS = 20_000;
export const REQUEST_TIMEOUT_MS = 15_000;
export const EFFECT_DELAY_MS = 120_000;
export const LISTING_DELAY_MS = 60_000;

/**
 * From the expiry of a signed create to the last moment at which it can take effect: one second because an expiry is
 * given in whole ones, and one for a request that was found in time just before. Skew between the clocks is the
 * engine's margin.
 */
export const EXPIRED_EFFECT_DELAY_MS = 2_000;
/** How long a signed request that only asks or hangs up is good for: no call comes of it, however late it arrives. */
export const ASK_EXPIRES_AFTER_MS = 300_000;

/** The answer to a create, a fetch or a hang-up: one call of about 1.5 KB. */
export const CALL_RESPONSE_BYTES = 65_536;
/** One page of a listing. */
export const LISTING_PAGE_CALLS = 200;
export const LISTING_RESPONSE_BYTES = 2_097_152;
/** A pair of numbers with more calls than all of these pages hold can't be searched: an error, never absence. */
export const LISTING_PAGES = 50;

export const REFUSAL_MESSAGE_CHARS = 200;
/** What the API takes, in its own unit. */
export const RING_TIMEOUT_MAX_S = 600;
export const CALL_TIME_LIMIT_MAX_S = 86_400;
