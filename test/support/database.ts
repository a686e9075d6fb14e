import { randomBytes } from 'node:crypto';
import { escapeIdentifier } from 'pg';
import { inject } from 'vitest';
import { loginsOf, type TestLogins, type TestServer, urlFor, withClient } from './test-server.ts';

export interface TestDatabase {
  name: string;
  ownerUrl: string;
  appUrl: string;
  discoveryUrl: string;
  superuserUrl: string;
  logins: TestLogins;
  /** Drops the database, connected sessions included. What is not dropped goes with the server at the run's end. */
  drop(): Promise<void>;
}

/**
 * A database for one test file, or one test: migrated, with the three logins of a real installation, and empty. With
 * `migrated: false` not even that.
 */
export async function createTestDatabase(options: { migrated?: boolean } = {}): Promise<TestDatabase> {
  const server = inject('testServer');
  const logins = loginsOf(server);
  const name = `${server.prefix}_${randomBytes(6).toString('hex')}`;
  const template = options.migrated === false ? 'template0' : `${server.prefix}_template`;
  await withAdmin(server, [
    `CREATE DATABASE ${escapeIdentifier(name)} TEMPLATE ${escapeIdentifier(template)} OWNER ${escapeIdentifier(logins.owner)}`,
  ]);
  return {
    name,
    ownerUrl: urlFor(server, logins.owner, name),
    appUrl: urlFor(server, logins.app, name),
    discoveryUrl: urlFor(server, logins.discovery, name),
    superuserUrl: urlFor(server, undefined, name),
    logins,
    drop: () => withAdmin(server, [`DROP DATABASE IF EXISTS ${escapeIdentifier(name)} WITH (FORCE)`]),
  };
}

async function withAdmin(server: TestServer, statements: readonly string[]): Promise<void> {
  await withClient(urlFor(server, undefined, 'postgres'), async (client) => {
    for (const statement of statements) await client.query(statement);
  });
}
