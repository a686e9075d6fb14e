import { createHash } from 'node:crypto';
import path from 'node:path';
import type { ApiLimits } from '@carillon/api';
import { REQUEST_TIMEOUT_MS } from '@carillon/carriers';
import { defaultLimits, type Limits } from '@carillon/engine';
import {
  ALL_SETTINGS,
  API_LIMIT_SETTINGS,
  LIMIT_SETTINGS,
  type LogLevel,
  type Setting,
  SETTINGS,
} from './config-table.ts';
import type { Fault } from './faults.ts';
import { redactText } from './logger.ts';

/** The environment, parsed once. `undefined`: not set, and what then holds depends on the command. */
export interface Config {
  database_url: string | undefined;
  owner_database_url: string | undefined;
  /** Absolute. */
  data_dir: string;
  /** Where processes remember what they wrote to the database; undefined: no directory was given, nor one of ours. */
  memory_dir: string | undefined;
  host: string;
  port: number | undefined;
  metrics_port: number | undefined;
  public_url: string | undefined;
  /** 32 bytes. */
  secret: Buffer | undefined;
  log_level: LogLevel | undefined;
  /** 0: not at all. */
  migration_wait_ms: number;
  carrier_request_timeout_ms: number;
  pool_connections: number;
  idle_in_transaction_timeout_ms: number;
  /** For tests only. */
  fault: Fault | undefined;
  limits: Limits;
  /** Those that are set; the others are the API's own. */
  api_limits: Partial<ApiLimits>;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Everything that is wrong with the configuration, at once. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  /** What is wrong with nothing, but may be why something else is: misspelt names. */
  readonly warnings: readonly string[];
  constructor(problems: readonly string[], warnings: readonly string[] = []) {
    super(`The configuration is not valid: ${problems.join('; ')}`);
    this.name = 'ConfigError';
    this.problems = problems;
    this.warnings = warnings;
  }
}

/** What the command line says of a setting goes before the environment; both are held to the same table. */
export interface Overrides {
  data?: string | undefined;
  port?: string | undefined;
}

/**
 * What a command can't do without: a database of one kind or the other, the owner's login where the database is not
 * the embedded one, a secret likewise, an address that carriers can call back.
 */
export type Need = 'database' | 'owner' | 'secret' | 'public_url';

/** This process's environment: read here and nowhere else, and handed on from here. */
export function environment(): Environment {
  return process.env;
}

/** Throws ConfigError with every problem, what is missing for `needs` included. */
export function readConfig(
  env: Environment,
  overrides: Overrides = {},
  needs: readonly Need[] = [],
): { config: Config; warnings: string[] } {
  const problems: string[] = [];
  const parse = <T>(setting: Setting<T>, flag?: { name: string; text: string | undefined }): T | undefined => {
    const [name, text] = flag?.text === undefined ? [setting.name, env[setting.name]] : [flag.name, flag.text];
    // Set to nothing is how compose files and CI leave a variable out.
    if (text === undefined || text === '') return undefined;
    const parsed = setting.schema.safeParse(text.trim());
    if (parsed.success) return parsed.data;
    // What is no secret by itself may have one in it, such as a URL with a password.
    const said = setting.secret ? 'not valid' : `"${redactText(text)}"`;
    problems.push(`${name} is ${said}: expected ${setting.expected}`);
    return undefined;
  };
  const limits: Limits = { ...defaultLimits };
  for (const { limit, setting } of LIMIT_SETTINGS) limits[limit] = parse(setting) ?? limits[limit];
  const api_limits: Partial<ApiLimits> = {};
  for (const { limit, setting } of API_LIMIT_SETTINGS) {
    const value = parse(setting);
    if (value !== undefined) api_limits[limit] = value;
  }
  const idle_ms = parse(SETTINGS.idle_in_transaction_timeout_ms);
  const database_url = parse(SETTINGS.database_url);
  const given_dir = parse(SETTINGS.data_dir, { name: '--data', text: overrides.data });
  const config: Config = {
    database_url,
    owner_database_url: parse(SETTINGS.owner_database_url),
    data_dir: given_dir ?? SETTINGS.data_dir.schema.parse(OWN_DIR),
    memory_dir: memoryDir(given_dir, database_url),
    host: parse(SETTINGS.host) ?? '127.0.0.1',
    port: parse(SETTINGS.port, { name: '--port', text: overrides.port }),
    metrics_port: parse(SETTINGS.metrics_port),
    public_url: parse(SETTINGS.public_url),
    secret: parse(SETTINGS.secret),
    log_level: parse(SETTINGS.log_level),
    migration_wait_ms: parse(SETTINGS.migration_wait_ms) ?? 60_000,
    carrier_request_timeout_ms: parse(SETTINGS.carrier_request_timeout_ms) ?? REQUEST_TIMEOUT_MS,
    pool_connections: parse(SETTINGS.pool_connections) ?? 6,
    idle_in_transaction_timeout_ms: idle_ms ?? Math.min(20_000, Math.floor((limits.lease_ttl_ms * 2) / 3)),
    fault: parse(SETTINGS.fault),
    limits,
    api_limits,
  };
  if (problems.length === 0) problems.push(...contradictions(config));
  problems.push(...missing(env, config.host, needs));
  const warnings = unknownNames(env);
  if (config.fault) warnings.push(`CARILLON_FAULT is set: this process is for tests and meets ${env.CARILLON_FAULT}`);
  if (problems.length > 0) throw new ConfigError(problems, warnings);
  return { config, warnings };
}

const OWN_DIR = '.carillon';

/** For each database one of its own: what was written to another says nothing of this one. */
function memoryDir(given_dir: string | undefined, database_url: string | undefined): string | undefined {
  if (database_url === undefined) return path.join(given_dir ?? SETTINGS.data_dir.schema.parse(OWN_DIR), 'memory');
  if (given_dir === undefined) return undefined;
  const { host, pathname } = new URL(database_url);
  const mark = createHash('sha256').update(`${host}${pathname}`).digest('hex').slice(0, 16);
  return path.join(given_dir, `memory-${mark}`);
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/;

function missing(env: Environment, host: string, needs: readonly Need[]): string[] {
  const unset = ({ name }: Setting<unknown>) => (env[name] ?? '') === '';
  const { database_url, owner_database_url, secret, public_url } = SETTINGS;
  const found: string[] = [];
  const lacks = (setting: Setting<unknown>, because: string) =>
    found.push(`${setting.name} is not set${because}: expected ${setting.expected}`);
  if (needs.includes('database') && unset(database_url) && !unset(owner_database_url))
    lacks(database_url, ` and ${owner_database_url.name} is; set both, or neither for the embedded database`);
  if (needs.includes('owner') && unset(owner_database_url) && !unset(database_url)) lacks(owner_database_url, '');
  if (needs.includes('secret') && unset(secret) && !unset(database_url)) lacks(secret, '');
  // Behind any address but this machine's own stands a proxy or a network that Carillon knows nothing of.
  if (needs.includes('public_url') && unset(public_url) && !LOOPBACK.test(host))
    lacks(public_url, ` and CARILLON_HOST is "${host}"`);
  return found;
}

/** Values that are fine each by itself and not together. */
function contradictions({
  limits,
  idle_in_transaction_timeout_ms,
  database_url,
  owner_database_url,
}: Config): string[] {
  const found: string[] = [];
  if (idle_in_transaction_timeout_ms >= limits.lease_ttl_ms)
    found.push(
      `CARILLON_IDLE_IN_TRANSACTION_TIMEOUT_MS (${idle_in_transaction_timeout_ms}) must be below CARILLON_LEASE_TTL_MS (${limits.lease_ttl_ms}): a worker that stopped inside a transaction must not hold its locks longer than its runs`,
    );
  if (limits.claim_ahead_ms >= limits.dial_deadline_ms)
    found.push(
      `CARILLON_CLAIM_AHEAD_MS (${limits.claim_ahead_ms}) must be below CARILLON_DIAL_DEADLINE_MS (${limits.dial_deadline_ms}): a call would be past its deadline before its turn comes`,
    );
  if (limits.lane_halt_first_ms > limits.lane_halt_longest_ms)
    found.push(
      `CARILLON_LANE_HALT_FIRST_MS (${limits.lane_halt_first_ms}) must not be above CARILLON_LANE_HALT_LONGEST_MS (${limits.lane_halt_longest_ms})`,
    );
  if (database_url !== undefined && database_url === owner_database_url)
    found.push(
      'DATABASE_URL and CARILLON_OWNER_DATABASE_URL are the same: the application needs a login of its own, which "carillon migrate" creates',
    );
  return found;
}

/** A misspelt name would otherwise do nothing, in silence. */
function unknownNames(env: Environment): string[] {
  const known = ALL_SETTINGS.map(({ name }) => name);
  return Object.keys(env)
    .filter((name) => /^CARILLON_(?!TEST_)/.test(name) && !known.includes(name))
    .map((name) => {
      const [nearest] = known
        .map((candidate) => ({ candidate, edits: editDistance(name, candidate) }))
        .sort((a, b) => a.edits - b.edits);
      return `${name} is not a setting of Carillon and does nothing; did you mean ${nearest?.candidate}?`;
    });
}

/** How many letters have to be added, left out or exchanged to make one text the other. */
function editDistance(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (const [row, letter] of [...from].entries()) {
    const current = [row + 1];
    for (const [column, other] of [...to].entries()) {
      const exchanged = (previous[column] ?? 0) + (letter === other ? 0 : 1);
      current.push(Math.min(exchanged, (previous[column + 1] ?? 0) + 1, (current[column] ?? 0) + 1));
    }
    previous = current;
  }
  return previous.at(-1) ?? 0;
}

/** Whether errors are shown with their stacks; asked also where the configuration itself is wrong. */
export function debugging(env: Environment): boolean {
  return env[SETTINGS.log_level.name] === 'debug';
}

/** A terminal that can't move its cursor. */
export function dumbTerminal(env: Environment): boolean {
  return env.TERM === 'dumb';
}
