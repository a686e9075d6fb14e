/** Every bound of the HTTP border, with its unit as the last word. Defaults; an operator may set them. */
export interface ApiLimits {
  /** A JSON body: ten thousand lead ids, and a script to say, with room to spare. */
  body_bytes: number;
  /** An uploaded list. It is streamed, so this bounds patience, not memory. */
  import_body_bytes: number;
  /** A carrier's callback. */
  webhook_body_bytes: number;
  /** Of one API key, in one process. */
  requests_per_minute: number;
  /** A request waits this long for a database that is away before it is answered with 503. */
  database_wait_ms: number;
  /** A carrier waits this long for its callback to be committed; then it is told to come again. */
  webhook_wait_ms: number;
  /** Callbacks waiting for the database at once; above that a carrier is told to come again at once. */
  webhook_waiting_requests: number;
  /** How long an account's credentials are kept in memory: a changed token is believed for so long. */
  credentials_cache_ms: number;
  credentials_cache_entries: number;
  /** Event streams open at once: in this process, and of one business. */
  streams: number;
  streams_per_business: number;
  /** Between two readings of a run for one stream, however often it changes. */
  stream_pace_ms: number;
  /** A run is read this often when nothing is heard of it. */
  stream_poll_ms: number;
  /** A stream that has nothing to say says so, to keep proxies from closing it. */
  stream_heartbeat_ms: number;
  /** Then the stream ends and the client comes again, with a key that must still be valid. */
  stream_max_ms: number;
  /**
   * How long security events are gathered before they are written into the trail: those of a business, and those of
   * strangers. Alike ones become one row.
   */
  security_gather_ms: number;
  security_strangers_gather_ms: number;
  /** Different ones that wait to be written, of all businesses together; above it they stand in the log alone. */
  security_waiting_events: number;
  /** A connection on which nothing moves in either direction is closed. */
  connection_idle_ms: number;
  /** From a request's first byte to its last. */
  request_ms: number;
  /** When the process ends: how long requests may still take, and then what is being recorded; reapers find the rest. */
  close_wait_ms: number;
}

export const defaultApiLimits: ApiLimits = {
  body_bytes: 1_048_576,
  import_body_bytes: 1_073_741_824,
  webhook_body_bytes: 65_536,
  requests_per_minute: 600,
  database_wait_ms: 15_000,
  webhook_wait_ms: 5_000,
  webhook_waiting_requests: 5_000,
  credentials_cache_ms: 10_000,
  credentials_cache_entries: 1_000,
  streams: 200,
  streams_per_business: 50,
  stream_pace_ms: 250,
  stream_poll_ms: 2_000,
  stream_heartbeat_ms: 15_000,
  stream_max_ms: 600_000,
  security_gather_ms: 2_000,
  security_strangers_gather_ms: 10_000,
  security_waiting_events: 5_000,
  connection_idle_ms: 300_000,
  request_ms: 3_600_000,
  close_wait_ms: 5_000,
};

/** Items of one page. */
export const PAGE_DEFAULT_ITEMS = 100;
export const PAGE_MAX_ITEMS = 500;

export const IDEMPOTENCY_KEY_MAX_CHARACTERS = 200;
