import pg from 'pg';
import { AdoptError } from './errors.ts';

// The letters "adopting", read as one 64-bit number.
const LOCK_KEY = Buffer.from('adopting').readBigInt64BE().toString();

/**
 * Lets one adoption into a database at a time: two would take the same rows over, and get in each other's way at each
 * batch. Held by a transaction that is open as long as the adoption, on a connection of its own, so that it ends with
 * the process and goes through a pooler. The batches do not rely on it: each one checks where the adoption stands.
 *
 * Throws `adopt_in_progress`. Returns what gives the lock back.
 */
export async function holdAdoptionLock(app_url: string): Promise<() => Promise<void>> {
  const client = new pg.Client({
    connectionString: app_url,
    application_name: 'carillon adopt lock',
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
  });
  client.on('error', () => {});
  await client.connect();
  try {
    await client.query('BEGIN');
    await client.query('SET LOCAL idle_in_transaction_session_timeout = 0');
    const { rows } = await client.query<{ got: boolean }>('SELECT pg_try_advisory_xact_lock($1::bigint) AS got', [
      LOCK_KEY,
    ]);
    if (!rows[0]?.got)
      throw new AdoptError(
        'adopt_in_progress',
        'Another adoption into this database is under way; let it end, and adopt again',
      );
    return () => client.end();
  } catch (error) {
    await client.end();
    throw error;
  }
}
