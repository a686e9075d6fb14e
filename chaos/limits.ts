import { defaultLimits, type Limits } from '@carillon/engine';

/** Every bound and interval of a trial, its unit as the last word of its name; for the processes, those of the engine. */
export const LIMITS: Limits = {
  ...defaultLimits,
  lease_ttl_ms: 3_000,
  dial_deadline_ms: 2_000,
  carrier_effect_delay_ms: 2_000,
  carrier_listing_delay_ms: 1_000,
  reconcile_margin_ms: 1_000,
  reconcile_every_ms: 500,
  poll_after_ms: 1_500,
  hang_up_every_ms: 500,
  dial_response_timeout_ms: 2_000,
  poll_work_ms: 200,
  ring_timeout_ms: 2_000,
  /**
   * Calls talk for two seconds at most. This is also how long an unknown attempt is asked about before a person has to
   * decide: the carrier must be back by then, its answers in time, and the database there to say who is to be asked.
   */
  call_max_ms: 20_000,
  lane_halt_first_ms: 100,
  lane_halt_longest_ms: 500,
};

/** Of every request to a carrier but the one for a call. */
export const CARRIER_REQUEST_TIMEOUT_MS = 2_000;

/** No request of ours waits for a carrier longer than that: for its connection, its answer to a call or to anything else. */
export const LONGEST_TIMEOUT_MS = Math.max(
  LIMITS.dial_deadline_ms,
  LIMITS.dial_response_timeout_ms,
  CARRIER_REQUEST_TIMEOUT_MS,
);

/** A worker's runs are claimed again this long after its lease has run out, at the latest. */
export const RECLAIM_MORE_MS = 2_000;

export const TRIAL = {
  /** The first fault comes when calls are being made. */
  quiet_at_first_ms: 2_000,
  /** Between two faults: with these a minute has some 37 of them. */
  fault_gap_least_ms: 800,
  fault_gap_most_ms: 2_400,
  /** A dead process is started again after this. */
  dead_least_ms: 200,
  dead_most_ms: 2_500,
  /** A request that has no answer by then is given up by the client; it may still be carried out. */
  request_timeout_ms: 8_000,
  /** The client asks again until then, whatever breaks meanwhile. */
  request_patience_ms: 60_000,
  request_retry_ms: 150,
  process_start_ms: 60_000,
  /** An incomplete create is dropped by the carrier. Longer than a call may be paced, shorter than any stop of a worker. */
  carrier_body_timeout_ms: 3_000,
  metrics_every_ms: 2_000,
  leads_per_minute: 2_000,
  lead_run_most: 400,
  reviews_per_thousand_most: 1,
} as const;
