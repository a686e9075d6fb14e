import { isConnectionLost, sqlState } from '@carillon/engine';

/** Shutdowns of every kind; a lock or a statement that took too long; a transaction that stood still. */
const PUT_OFF = /^(57P..|55P03|57014|25P03)$/;
/** What the client library says without a code. */
const TOO_SLOW = /^(timeout exceeded when trying to connect|Query read timeout)/;

/** An error of the way to the database or of its start and end, not of what was asked of it. */
export function isDatabaseOutOfReach(error: unknown): boolean {
  if (isConnectionLost(error) || PUT_OFF.test(sqlState(error) ?? '')) return true;
  return error instanceof Error && TOO_SLOW.test(error.message);
}
