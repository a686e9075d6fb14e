import { CarillonError } from '@carillon/contract';
import { BehaviourError } from '@carillon/carrier-sim';
import { AdoptError, LoginError, type LoginErrorCode, MigrateError, sqlState } from '@carillon/engine';
import { ConfigError } from './config.ts';
import { EmbeddedError } from './embedded/embedded-error.ts';

/** Wrong use (2) is mended by another command line or configuration; failure (1) is not. */
export type ExitCode = 1 | 2;

/** A failure of a command, in one sentence that says what to do. */
export class CliError extends Error {
  readonly code: string;
  readonly exit_code: ExitCode;
  constructor(code: string, message: string, options: ErrorOptions & { exit_code?: ExitCode } = {}) {
    super(message, options);
    this.name = 'CliError';
    this.code = code;
    this.exit_code = options.exit_code ?? 1;
  }
}

/** A command line or a configuration that can't be right. */
export function wrongUse(code: string, message: string): CliError {
  return new CliError(code, message, { exit_code: 2 });
}

export interface Failure {
  code: string;
  sentence: string;
  /** One line for each thing that is wrong, where there are several. */
  details: readonly string[];
  exit_code: ExitCode;
}

/** What a person is told of any error: what happened, its code, what to do. Never a stack. */
export function describeFailure(error: unknown): Failure {
  if (error instanceof ConfigError) return describeConfigError(error);
  if (error instanceof CliError) return failure(error.code, error.message, error.exit_code);
  if (error instanceof BehaviourError) return failure('invalid_behaviour', error.message, 2);
  if (error instanceof AdoptError)
    return failure(error.code, error.message, error.code === 'adopt_source_invalid' ? 2 : 1);
  if (error instanceof CarillonError || error instanceof MigrateError) return failure(error.code, error.message);
  if (error instanceof EmbeddedError || error instanceof LoginError) return failure(error.code, error.message);
  return describeDatabaseError(error) ?? describeUnexpected(error);
}

function failure(code: string, sentence: string, exit_code: ExitCode = 1): Failure {
  return { code, sentence, details: [], exit_code };
}

function describeConfigError({ problems, warnings }: ConfigError): Failure {
  const details = [...problems, ...warnings];
  const [only, ...others] = details;
  if (only !== undefined && others.length === 0) return failure('config_invalid', only, 2);
  const places = problems.length === 1 ? 'one place' : `${problems.length} places`;
  return { code: 'config_invalid', sentence: `The configuration is wrong in ${places}`, details, exit_code: 2 };
}

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
]);
/** A wrong password, or a login that is not there. */
const LOGIN_REFUSED = new Set(['28P01', '28000']);
/** Starting up, shutting down, crashed, too many connections. */
const NOT_NOW = new Set(['57P01', '57P02', '57P03', '53300']);
/** Of the driver, which gives these no code. */
const BROKEN =
  /^(timeout exceeded when trying to connect|Connection terminated|Client has encountered a connection error)/;

/** True for trouble with the way to the database, or with a server that will be back; waiting may help. */
export function isUnreachable(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isUnreachable);
  if (error instanceof MigrateError) return error.code === 'database_unreachable';
  if (!(error instanceof Error)) return false;
  const code = sqlState(error) ?? ('code' in error ? String(error.code) : '');
  return UNREACHABLE.has(code) || NOT_NOW.has(code) || BROKEN.test(error.message);
}

const UNMIGRATED: readonly LoginErrorCode[] = ['schema_missing', 'schema_older', 'access_missing', 'access_too_wide'];

/** What "carillon migrate" makes, and may be making at this moment: tables, logins and what these may do. */
export function isUnmigrated(error: unknown): boolean {
  if (error instanceof LoginError) return UNMIGRATED.includes(error.code);
  return LOGIN_REFUSED.has(sqlState(error) ?? '');
}

/** The driver's errors often come as several, one for each address that was tried, without a message of their own. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0)
    return [...new Set(error.errors.map(messageOf))].join('; ');
  return error instanceof Error ? error.message : String(error);
}

function describeDatabaseError(error: unknown): Failure | undefined {
  if (isUnreachable(error))
    return failure(
      'database_unavailable',
      `The database can't be reached: ${messageOf(error)}; start it, or correct DATABASE_URL`,
    );
  const state = sqlState(error) ?? '';
  if (LOGIN_REFUSED.has(state))
    return failure('login_refused', `The database refuses the login: ${messageOf(error)}; correct DATABASE_URL`);
  if (state === '3D000') return failure('database_missing', `${messageOf(error)}; create it, or correct DATABASE_URL`);
  return undefined;
}

function describeUnexpected(error: unknown): Failure {
  return failure('internal', `${messageOf(error)} (CARILLON_LOG_LEVEL=debug shows where this comes from)`);
}
