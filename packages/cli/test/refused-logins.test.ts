import { escapeIdentifier as id } from 'pg';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { start } from './support/cli.ts';

/** Breaks one thing in a database of its own. */
interface Fault {
  what: string;
  sql: (database: TestDatabase) => string;
  says: RegExp;
}

const FAULTS: Fault[] = [
  {
    what: 'a table whose row security is not forced',
    sql: () => 'ALTER TABLE carillon.leads NO FORCE ROW LEVEL SECURITY',
    says: /^carillon: The walls between businesses have a hole: of leads, its row security is not forced.* \[walls_broken\]\n$/,
  },
  {
    what: 'an application that may rewrite its trail',
    sql: ({ logins }) => `GRANT UPDATE ON carillon.audit_events TO ${id(logins.app)}`,
    says: /^carillon: The login \S+ may do more than it is given: UPDATE on audit_events; .* \[access_too_wide\]\n$/,
  },
  {
    what: 'an application that owns a table',
    sql: ({ logins }) => `ALTER TABLE carillon.lists OWNER TO ${id(logins.app)}`,
    says: /^carillon: The login \S+ owns lists, with which it could see past row security; .* \[login_too_strong\]\n$/,
  },
];

describe.each(['api', 'worker'])('carillon %s ends with one sentence', (command) => {
  it.each(FAULTS)('before $what', async ({ sql, says }) => {
    const database = await createTestDatabase();
    onTestFinished(() => database.drop());
    await withClient(database.superuserUrl, (client) => client.query(sql(database)));
    const refused = start(command === 'api' ? ['api', '--port', '0'] : ['worker'], {
      DATABASE_URL: database.appUrl,
      CARILLON_MIGRATION_WAIT_MS: '0',
      CARILLON_SECRET: Buffer.alloc(32, 1).toString('base64'),
    });
    onTestFinished(() => void refused.child.kill('SIGKILL'));
    const { code, stdout, stderr } = await refused.ended;
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(says);
  });
});
