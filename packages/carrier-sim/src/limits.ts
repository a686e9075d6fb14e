/** Every bound of the simulator, its unit as the last word of its name. */
export const limits = {
  request_body_bytes: 64 * 1024,
  behaviour_body_bytes: 16 * 1024 * 1024,
  /** The carrier reads no more of an answer than this. */
  twiml_bytes: 64 * 1024,
  /** An answer that redirects to itself for ever is an application error. */
  documents_per_call: 100,
  /** Connections to one customer's server; what comes on top waits for a free one. */
  webhook_connections: 256,
  /** Between the tries of one webhook. */
  webhook_retry_pause_ms: 100,
  /** How often unfinished requests are looked at. */
  unfinished_request_check_ms: 200,
  page_size_default: 50,
  page_size: 1000,
  /** Calls whose webhooks `Events.json` still shows, after they have ended. */
  events_kept_calls: 5000,
  events_kept_ms: 15 * 60_000,
  event_body_bytes: 2048,
  /** Calls that the page and `/_sim/live` show. */
  live_shown_calls: 200,
  ledger_chunk_calls: 500,
  day_ms: 24 * 60 * 60_000,
};
