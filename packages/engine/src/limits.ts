/** Every limit and interval of the engine, with its unit as the last word. Defaults; an operator may set them. */
export interface Limits {
  /** A lease whose last heartbeat is older than this may be taken by another worker. */
  lease_ttl_ms: number;
  /** From the claim to the last moment at which a call may still be asked for. */
  dial_deadline_ms: number;
  /** How far ahead of now a claim may take starts. A stop has at most these to chase. */
  claim_ahead_ms: number;
  /** Attempts of one claim, at most. */
  claim_batch_attempts: number;
  /** Jobs made from a list in one transaction, at most. */
  fill_batch_jobs: number;
  /** Jobs that should lie filled ahead of the claim cursor. */
  fill_ahead_jobs: number;
  /** Jobs of a stopped run given their final state in one transaction, at most. */
  sweep_batch_jobs: number;
  /** Sent to the carrier with each call. */
  ring_timeout_ms: number;
  call_max_ms: number;
  /**
   * Longest time from the last byte of a create to its effect. No carrier of Twilio's family promises one; a kernel whose
   * process was killed may go on delivering for about 100 s where the way is broken.
   */
  carrier_effect_delay_ms: number;
  /** How long a created call may be missing from the carrier's list. */
  carrier_listing_delay_ms: number;
  /** Added to every such wait: skew between clocks. */
  reconcile_margin_ms: number;
  /** Between two askings of a carrier about one unknown attempt. */
  reconcile_every_ms: number;
  /** Silence after which a live call is asked about. */
  poll_after_ms: number;
  /** Between two orders to hang up one call. */
  hang_up_every_ms: number;
  /** A carrier that doesn't answer a create in this time leaves the attempt unknown. */
  dial_response_timeout_ms: number;
  /** Evidence that arrives within this time is settled in one transaction. */
  gather_ms: number;
  /** Evidence settled in one transaction, at most. */
  gather_batch_items: number;
  /** A worker looks for work at least this often when nothing wakes it. */
  poll_work_ms: number;
  /** Runs that one worker holds, at most. */
  worker_runs: number;
  /** A run that has nobody to call for longer than this is held by no worker until then. */
  run_rest_ms: number;
  /** A run whose leases start calls and finish none, this many times in a row, is failed. */
  fruitless_leases: number;
  /** A lead of which this many attempts ended with their worker, or in an error of ours, is left to a person. */
  fruitless_attempts: number;
  /** A lead at which the lane is refused this many times, while others are called, is left to a person. */
  refused_attempts: number;
  /** Refusals in a row with codes that nobody knows; the further ones are the lane's, and no longer their leads'. */
  unlisted_refusals: number;
  /** First and longest pause of a lane after refusals of the account; doubles in between. */
  lane_halt_first_ms: number;
  lane_halt_longest_ms: number;
}

export const defaultLimits: Limits = {
  lease_ttl_ms: 30_000,
  dial_deadline_ms: 5_000,
  claim_ahead_ms: 200,
  claim_batch_attempts: 500,
  fill_batch_jobs: 5_000,
  fill_ahead_jobs: 10_000,
  sweep_batch_jobs: 5_000,
  ring_timeout_ms: 30_000,
  call_max_ms: 600_000,
  carrier_effect_delay_ms: 120_000,
  carrier_listing_delay_ms: 60_000,
  reconcile_margin_ms: 5_000,
  reconcile_every_ms: 5_000,
  poll_after_ms: 60_000,
  hang_up_every_ms: 2_000,
  dial_response_timeout_ms: 15_000,
  gather_ms: 5,
  gather_batch_items: 500,
  poll_work_ms: 500,
  worker_runs: 200,
  run_rest_ms: 60_000,
  fruitless_leases: 5,
  fruitless_attempts: 4,
  refused_attempts: 4,
  unlisted_refusals: 5,
  lane_halt_first_ms: 1_000,
  lane_halt_longest_ms: 60_000,
};
