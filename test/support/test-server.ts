import { randomBytes } from 'node:crypto';
import { Client } from 'pg';

/** The server of this test run, and the logins that its databases share. Logins belong to a server, not a database. */
export interface TestServer {
  /** A superuser's URL. */
  url: string;
  /** In the name of everything that this run makes there, so that several runs can share one server. */
  prefix: string;
  password: string;
}

declare module 'vitest' {
  interface ProvidedContext {
    testServer: TestServer;
  }
}

export function describeServer(url: string): TestServer {
  return { url, prefix: `t${randomBytes(4).toString('hex')}`, password: randomBytes(12).toString('hex') };
}

// A type, not an interface, so that it is also a record of names.
export type TestLogins = {
  owner: string;
  app: string;
  discovery: string;
};

export function loginsOf(server: TestServer): TestLogins {
  const app = `${server.prefix}_app`;
  return { owner: `${server.prefix}_owner`, app, discovery: `${app}_discovery` };
}

/** The URL of a login and database on the test server. */
export function urlFor(server: TestServer, login: string | undefined, database: string): string {
  const url = new URL(server.url);
  if (login !== undefined) {
    url.username = login;
    url.password = server.password;
  }
  url.pathname = `/${database}`;
  return url.toString();
}

/** Runs `work` on a connection of its own. */
export async function withClient<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
