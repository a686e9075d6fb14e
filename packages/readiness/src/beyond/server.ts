import { probeServer } from '@carillon/engine';
import type { Check } from '../options.ts';
import type { Finding } from '../prove.ts';

/** Nothing of ours lasts this long: a statement ends after two minutes, an idle transaction far sooner. */
const TRANSACTION_MAX_S = 300;
const CONNECTIONS_SHARE_MAX = 0.9;

/** What was committed survives a crash: at most once rests on it. */
export async function lookAtDurability({ db }: Check): Promise<Finding> {
  const { settings } = await probeServer(db);
  const lost = [
    settings.fsync === 'off' &&
      'fsync is off: after a crash of the machine the database may have forgotten calls, or be damaged',
    settings.synchronous_commit === 'off' &&
      'synchronous_commit is off: after a crash the database may have forgotten calls that were made',
    settings.full_page_writes === 'off' && 'full_page_writes is off: a crash of the machine may damage tables',
  ].filter((problem) => problem !== false);
  if (lost.length > 0) return { ok: false, sentence: lost.join('; '), evidence: settings };
  return { ok: true, sentence: 'What is committed survives a crash', evidence: settings };
}

/** No transaction holds back vacuum, as far as this login may see. */
export async function lookAtTransactions({ db }: Check): Promise<Finding> {
  const server = await probeServer(db);
  const { hidden_sessions } = server;
  const oldest_transaction_s = Math.round(server.oldest_transaction_s * 10) / 10;
  const evidence = { oldest_transaction_s, hidden_sessions, allowed_s: TRANSACTION_MAX_S };
  if (oldest_transaction_s > TRANSACTION_MAX_S)
    return {
      ok: false,
      sentence: `A transaction has been open for ${oldest_transaction_s} s, and holds back vacuum: find it in pg_stat_activity and end it`,
      evidence,
    };
  const hidden =
    hidden_sessions === 0
      ? ''
      : `; of ${hidden_sessions} sessions of other logins the server tells this one nothing (GRANT pg_read_all_stats shows them)`;
  return { ok: true, sentence: `The oldest transaction is ${oldest_transaction_s} s old${hidden}`, evidence };
}

/** There is room for more connections. */
export async function lookAtConnections({ db }: Check): Promise<Finding> {
  const { connections, max_connections } = await probeServer(db);
  const evidence = { connections, max_connections };
  const used = `${connections} of the server's ${max_connections} connections are in use`;
  if (connections > max_connections * CONNECTIONS_SHARE_MAX)
    return { ok: false, sentence: `${used}: raise max_connections or put a pooler before it`, evidence };
  return { ok: true, sentence: used, evidence };
}
