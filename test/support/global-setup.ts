import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startEmbedded } from '@carillon/cli';
import { migrate } from '@carillon/engine';
import { escapeIdentifier, escapeLiteral } from 'pg';
import type { TestProject } from 'vitest/node';
import { describeServer, loginsOf, type TestServer, urlFor, withClient } from './test-server.ts';

/**
 * One PostgreSQL for all tests of a run: that of CARILLON_TEST_SERVER_URL (a superuser's URL), or an embedded one in a
 * temporary directory. A template database is migrated once; the tests' databases are copies of it.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.CARILLON_TEST_SERVER_URL;
  const own = given ? undefined : await startOwn();
  const server = describeServer(given ?? own?.url ?? '');
  try {
    await makeTemplate(server);
  } catch (error) {
    await own?.stop();
    throw error;
  }
  project.provide('testServer', server);
  return async () => {
    if (own) await own.stop();
    else await removeEverything(server);
  };
}

async function startOwn(): Promise<{ url: string; stop(): Promise<void> }> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'carillon-test-'));
  // It outlives us if we are killed, and then stops the server and removes the directory.
  const reaper = spawn(process.execPath, [path.join(import.meta.dirname, 'reaper.ts'), dataDir], {
    stdio: ['pipe', 'ignore', 'inherit'],
    detached: true,
  });
  const embedded = await startEmbedded({
    dataDir,
    settings: {
      // What is lost in a power cut is not missed here. Tests of durability start a server of their own.
      fsync: 'off',
      synchronous_commit: 'off',
      full_page_writes: 'off',
      shared_buffers: '128MB',
      max_connections: '300',
    },
  });
  return {
    url: embedded.superuserUrl,
    async stop() {
      await embedded.stop();
      await rm(dataDir, { recursive: true, force: true });
      reaper.stdin.end();
      reaper.unref();
    },
  };
}

async function makeTemplate(server: TestServer): Promise<void> {
  const { owner, app } = loginsOf(server);
  const template = `${server.prefix}_template`;
  await withClient(urlFor(server, undefined, 'postgres'), async (client) => {
    const password = escapeLiteral(server.password);
    await client.query(`CREATE ROLE ${escapeIdentifier(owner)} LOGIN CREATEROLE PASSWORD ${password}`);
    await client.query(`CREATE DATABASE ${escapeIdentifier(template)} OWNER ${escapeIdentifier(owner)}`);
  });
  await migrate({ ownerUrl: urlFor(server, owner, template), appUrl: urlFor(server, app, template) });
}

/** From a server that is not ours to stop. */
async function removeEverything(server: TestServer): Promise<void> {
  const { owner, app, discovery } = loginsOf(server);
  await withClient(urlFor(server, undefined, 'postgres'), async (client) => {
    const { rows } = await client.query<{ datname: string }>(
      "SELECT datname FROM pg_database WHERE datname LIKE $1 || '\\_%'",
      [server.prefix],
    );
    for (const { datname } of rows) await client.query(`DROP DATABASE ${escapeIdentifier(datname)} WITH (FORCE)`);
    for (const role of [discovery, app, owner]) await client.query(`DROP ROLE IF EXISTS ${escapeIdentifier(role)}`);
  });
}
