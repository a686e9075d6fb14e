import type { CarrierDriver, CarrierDrivers } from '@carillon/contract';
import { z } from 'zod';
import { createCanaryDriver } from './canary/driver.ts';
import {
  CONNECT_TIMEOUT_MS,
  DIAL_RESPONSE_TIMEOUT_MS,
  EFFECT_DELAY_MS,
  LISTING_DELAY_MS,
  REQUEST_TIMEOUT_MS,
} from './limits.ts';
import { createTwilioDriver } from './twilio/driver.ts';

export { REQUEST_TIMEOUT_MS };

const duration_ms = z.number().int().min(1).max(3_600_000);

const Options = z.strictObject({
  /** From the look-up of the name until the headers are out (TLS included); past it nothing was dialed. */
  connect_timeout_ms: duration_ms.default(CONNECT_TIMEOUT_MS),
  /** From the last byte of a create to the last byte of its answer; past it the attempt is unknown. */
  dial_response_timeout_ms: duration_ms.default(DIAL_RESPONSE_TIMEOUT_MS),
  /** The same for every other request (each page of a listing, a fetch, each order of a hang-up). */
  request_timeout_ms: duration_ms.default(REQUEST_TIMEOUT_MS),
  /**
   * What is assumed as the longest time from a create's last byte to its effect. No carrier of this family promises one;
   * null says so, and then no attempt is ever believed absent. The network is part of it: while the way is broken a
   * kernel goes on sending what it holds until the response time-out resets the connection, about 100 s (Linux) where
   * the process was killed before that.
   */
  effect_delay_ms: duration_ms.nullable().default(EFFECT_DELAY_MS),
  /** What is assumed as the longest time that a created call may be missing from the listing. */
  listing_delay_ms: duration_ms.default(LISTING_DELAY_MS),
});
export type CarrierOptions = z.infer<typeof Options>;

/** The drivers of an installation by name. Options left out have their defaults; an option out of range throws. */
export function createCarrierDrivers(options: Partial<CarrierOptions> = {}): CarrierDrivers {
  const drivers: CarrierDriver[] = [createTwilioDriver(Options.parse(options)), createCanaryDriver()];
  return new Map(drivers.map((driver) => [driver.name, driver]));
}
