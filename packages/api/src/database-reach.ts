import { sqlState } from '@carillon/engine';

const OUT_OF_REACH = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EPIPE',
]);
/** Classes 08 and 57P: connections and shutdowns; too many connections; a lock or a statement that took too long. */
const PUT_OFF = /^(08...|57P..|53300|55P03|57014|25P03)$/;
/** What the client library says without a code. */
const BROKEN =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection|Query read timeout)/;

/** An error of the way to the database or of its start and end, not of what was asked of it. */
export function isDatabaseOutOfReach(error: unknown): boolean {
  const state = sqlState(error);
  if (state !== undefined) return PUT_OFF.test(state);
  if (!(error instanceof Error)) return false;
  if ('code' in error && typeof error.code === 'string') return OUT_OF_REACH.has(error.code);
  return BROKEN.test(error.message);
}
